import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from '../database/database.js';
import { messageColumns, type MessageRow } from '../conversations/message.dto.js';

/** Older messages than so many are of no help to an answer, and most models could not hold them. */
const HISTORY_LIMIT = 200;

/** Everything that goes into the prompt of one reply. */
export interface Conversation {
  chatbotName: string;
  model: string | null;
  characteristics: string[];
  guestName: string | null;
  /** What came before, oldest first. */
  history: MessageRow[];
  /** The messages that joined the reply before it was claimed, oldest first. */
  question: MessageRow[];
}

/** Reads what a claimed reply answers. To be called after the claim has committed, when no message can join any more. */
@Injectable()
export class ConversationReader {
  constructor(private readonly database: Database) {}

  /** @returns null where the session is gone */
  async read(sessionId: string, replyId: string): Promise<Conversation | null> {
    const [[session], characteristics, question, history] = await Promise.all([
      this.database.runSafely(
        sql<{ name: string; model: string | null; guest_name: string | null }>`
          select c.name, c.model, g.name as guest_name
          from chat_sessions s join chatbots c on c.id = s.chatbot_id left join guests g on g.id = s.guest_id
          where s.id = ${sessionId}`,
      ),
      this.database.runSafely(
        sql<{ content: string }>`
          select content from chatbot_characteristics
          where chatbot_id = (select chatbot_id from chat_sessions where id = ${sessionId})
          order by created_at, id`,
      ),
      this.database.runSafely(
        sql<MessageRow>`
          select ${messageColumns} from messages where reply_id = ${replyId} and sender = 'user' order by sequence`,
      ),
      // Not what belongs to a later reply, which may have been cancelled before this one was tried again; and not a
      // cancelled text that was asked for again.
      this.database.runSafely(
        sql<MessageRow>`
          select m.* from messages m left join replies r on r.id = m.reply_id
          where m.chat_session_id = ${sessionId}
            and (r.id is null
              or (r.created_at, r.id) < (select this.created_at, this.id from replies this where this.id = ${replyId}))
            and not (m.sender = 'ai' and exists (select 1 from replies again where again.retry_of_id = r.id))
          order by m.sequence desc limit ${HISTORY_LIMIT}`,
      ),
    ]);
    if (!session || question.length === 0) return null;
    return {
      chatbotName: session.name,
      model: session.model,
      characteristics: characteristics.map(({ content }) => content),
      guestName: session.guest_name,
      history: history.reverse(),
      question,
    };
  }
}
