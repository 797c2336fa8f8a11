import { Module } from '@nestjs/common';
import { DatabaseModule } from '../database/database.module.js';
import { ChatbotsController } from './chatbots.controller.js';
import { ChatbotsService } from './chatbots.service.js';

@Module({ imports: [DatabaseModule], controllers: [ChatbotsController], providers: [ChatbotsService] })
export class ChatbotsModule {}
