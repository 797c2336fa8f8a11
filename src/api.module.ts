import { Module } from '@nestjs/common';
import { AuthModule } from './auth/auth.module.js';
import { ChatbotsModule } from './chatbots/chatbots.module.js';
import { MessagesModule } from './messages/messages.module.js';

/** The role `api`: everything that is spoken over HTTP. It hands jobs over, and works on none. */
@Module({ imports: [AuthModule, ChatbotsModule, MessagesModule] })
export class ApiModule {}
