import { Module } from '@nestjs/common';
import { ConversationsModule } from '../conversations/conversations.module.js';
import { ClerkWebhookController } from './clerk-webhook.controller.js';
import { ErasureController } from './erasure.controller.js';

@Module({ imports: [ConversationsModule], controllers: [ErasureController, ClerkWebhookController] })
export class ErasureModule {}
