import { Module } from '@nestjs/common';
import { AiSdkModule } from './ai-sdk/ai-sdk.module.js';
import { ChatSessionsModule } from './chat-sessions/chat-sessions.module.js';
import { ChatbotsModule } from './chatbots/chatbots.module.js';
import { ErasureModule } from './erasure/erasure.module.js';
import { GuestPageModule } from './guest-page/guest-page.module.js';
import { MessagesModule } from './messages/messages.module.js';
import { OperatorsModule } from './operations/operators.module.js';
import { PeopleModule } from './people/people.module.js';
import { RepliesModule } from './replies/replies.module.js';
import { UsageModule } from './usage/usage.module.js';
import { SessionEventsModule } from './session-events/session-events.module.js';

/** Everything that HTTP serves. It enqueues jobs and processes none. */
@Module({
  imports: [
    ChatbotsModule,
    ChatSessionsModule,
    MessagesModule,
    RepliesModule,
    SessionEventsModule,
    AiSdkModule,
    ErasureModule,
    UsageModule,
    PeopleModule,
    GuestPageModule,
    OperatorsModule,
  ],
})
export class ApiModule {}
