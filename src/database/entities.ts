import { ChatSession } from '../chat-sessions/chat-session.entity.js';
import { ChatbotCharacteristic } from '../chatbots/chatbot-characteristic.entity.js';
import { Chatbot } from '../chatbots/chatbot.entity.js';
import { Guest } from '../guests/guest.entity.js';
import { IdempotencyKey } from '../limits/idempotency-key.entity.js';
import { Message } from '../messages/message.entity.js';
import { Reply } from '../messages/reply.entity.js';
import { Erasure } from './erasure.entity.js';

export const entities = [
  Chatbot,
  ChatbotCharacteristic,
  Guest,
  ChatSession,
  Message,
  Reply,
  Erasure,
  IdempotencyKey,
];
