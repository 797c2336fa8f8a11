import { Module } from '@nestjs/common';
import { DatabaseModule } from '../database/database.module.js';
import { GuestPage } from './guest-page.js';

@Module({ imports: [DatabaseModule], providers: [GuestPage] })
export class GuestPageModule {}
