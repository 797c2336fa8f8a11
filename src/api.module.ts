import { Module } from '@nestjs/common';
import { AuthModule } from './auth/auth.module.js';
import { ChatSessionsModule } from './chat-sessions/chat-sessions.module.js';
import { ChatbotsModule } from './chatbots/chatbots.module.js';
import { ErasureModule } from './erasure/erasure.module.js';
import { MessagesModule } from './messages/messages.module.js';
import { RepliesModule } from './replies/replies.module.js';
import { SessionEventsModule } from './session-events/session-events.module.js';

/** Everything that is spoken over HTTP. It enqueues jobs, and works on none. */
@Module({
  imports: [
    AuthModule,
    ChatbotsModule,
    ChatSessionsModule,
    MessagesModule,
    RepliesModule,
    SessionEventsModule,
    ErasureModule,
  ],
})
export class ApiModule {}
