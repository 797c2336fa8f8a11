import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { ErasureController } from './erasure.controller.js';

@Module({ imports: [ConversationsModule], controllers: [ErasureController] })
export class ErasureModule {}
