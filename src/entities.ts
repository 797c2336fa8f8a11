import { ChatSession } from './conversations/chat-session.entity.js';
import { ChatbotCharacteristic } from './chatbots/chatbot-characteristic.entity.js';
import { Chatbot } from './chatbots/chatbot.entity.js';
import { Guest } from './guests/guest.entity.js';
import { IdempotencyKey } from './database/idempotency-key.entity.js';
import { Message } from './conversations/message.entity.js';
import { Reply } from './conversations/reply.entity.js';
import { Erasure } from './conversations/erasure.entity.js';
import { OwnerErasure } from './conversations/owner-erasure.entity.js';
import { SessionCountChange } from './conversations/session-count-change.entity.js';
import { SessionToken } from './conversations/session-token.entity.js';
import { UsageDay } from './conversations/usage-day.entity.js';
import { HeldPlace } from './limits/held-place.entity.js';
import { RateLimit } from './limits/rate-limit.entity.js';

export const entities = [
  Chatbot,
  ChatbotCharacteristic,
  Guest,
  ChatSession,
  Message,
  Reply,
  Erasure,
  IdempotencyKey,
  RateLimit,
  HeldPlace,
  UsageDay,
  SessionToken,
  OwnerErasure,
  SessionCountChange,
];
