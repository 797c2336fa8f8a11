import { Module } from '@nestjs/common';
import { DatabaseModule } from '../database/database.module.js';
import { PeopleController } from './people.controller.js';
import { PeopleService } from './people.service.js';

/** Who talked with a chatbot, for its owner. */
@Module({ imports: [DatabaseModule], controllers: [PeopleController], providers: [PeopleService] })
export class PeopleModule {}
