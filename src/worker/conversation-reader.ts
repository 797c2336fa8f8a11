import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from '../database/database.js';
import type { MessageRow } from '../conversations/message.dto.js';

/** Older messages than so many are of no help to an answer, and most models could not hold them. */
const HISTORY_LIMIT = 200;

/** Everything that goes into the prompt of one reply. */
export interface Conversation {
  chatbotName: string;
  model: string | null;
  instructions: string | null;
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
    const [session, characteristics, question, history] = await Promise.all([
      this.database.read((db) =>
        db
          .selectFrom('chat_sessions as s')
          .innerJoin('chatbots as c', 'c.id', 's.chatbot_id')
          .leftJoin('guests as g', 'g.id', 's.guest_id')
          .select(['c.name', 'c.model', 'c.instructions', 'g.name as guest_name'])
          .where('s.id', '=', sessionId)
          .executeTakeFirst(),
      ),
      this.database.read((db) =>
        db
          .selectFrom('chatbot_characteristics')
          .select('content')
          .where('chatbot_id', '=', (eb) =>
            eb.selectFrom('chat_sessions').select('chatbot_id').where('id', '=', sessionId),
          )
          .orderBy('created_at')
          .orderBy('id')
          .execute(),
      ),
      this.database.read((db) =>
        db
          .selectFrom('messages')
          .selectAll()
          .where('reply_id', '=', replyId)
          .where('sender', '=', 'user')
          .orderBy('sequence')
          .execute(),
      ),
      this.database.read((db) =>
        db
          .selectFrom('messages as m')
          .leftJoin('replies as r', 'r.id', 'm.reply_id')
          .selectAll('m')
          .where('m.chat_session_id', '=', sessionId)
          // Not what belongs to a later reply, which may have been cancelled before this one was tried again.
          .where((eb) =>
            eb.or([
              eb('r.id', 'is', null),
              sql<boolean>`${eb.refTuple('r.created_at', 'r.id')} < ${eb
                .selectFrom('replies as this')
                .select(['this.created_at', 'this.id'])
                .where('this.id', '=', replyId)}`,
            ]),
          )
          // Not a cancelled text that was asked for again.
          .where((eb) =>
            eb.not(
              eb.and([
                eb('m.sender', '=', 'ai'),
                eb.exists(
                  eb
                    .selectFrom('replies as again')
                    .select('again.id')
                    .whereRef('again.retry_of_id', '=', 'r.id'),
                ),
              ]),
            ),
          )
          .orderBy('m.sequence', 'desc')
          .limit(HISTORY_LIMIT)
          .execute(),
      ),
    ]);
    if (!session || question.length === 0) return null;
    return {
      chatbotName: session.name,
      model: session.model,
      instructions: session.instructions,
      characteristics: characteristics.map(({ content }) => content),
      guestName: session.guest_name,
      history: history.reverse(),
      question,
    };
  }
}
