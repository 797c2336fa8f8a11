import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { greet } from '../chatbots/greeting.js';
import { tokensOfCharacteristic, tokensOfInstructions } from '../chatbots/prompt-room.js';
import { ReplyFinishReason } from '../conversations/reply-status.js';
import type { MessageRow } from '../conversations/message.dto.js';
import { Database } from '../database/database.js';
import type { Row } from '../database/tables.js';
import type { CountedText } from './prompt-parts.js';
import { TokenCounter } from './token-counter.js';

/** Older messages than so many are of no help to an answer, and most models could not hold them. */
const HISTORY_LIMIT = 200;

/** Everything that goes into the prompt of one reply. */
export interface Conversation {
  chatbotName: string;
  model: string | null;
  /** Its owner's budget of the day, in tokens; null: the operator's default. */
  dailyTokenBudget: number | null;
  /** What it says where that is spent; null: a sentence of ours. */
  unavailableMessage: string | null;
  instructions: CountedText | null;
  /** Oldest first: the owner's order. */
  characteristics: CountedText[];
  guestName: string | null;
  /** What came before, oldest first. */
  history: MessageRow[];
  /** The messages that joined the reply before it was claimed, oldest first. */
  question: MessageRow[];
}

type OfChatbot = Omit<Conversation, 'history' | 'question'> & { greeting: string | null };

/** Reads what a claimed reply answers. To be called after the claim has committed, when no message can join any more. */
@Injectable()
export class ConversationReader {
  constructor(
    private readonly database: Database,
    private readonly tokenCounter: TokenCounter,
  ) {}

  /** @returns null where the session is gone */
  async read(sessionId: string, replyId: string): Promise<Conversation | null> {
    const [ofChatbot, [question, newest]] = await Promise.all([
      this.readCounted(sessionId),
      this.readMessages(sessionId, replyId),
    ]);
    if (!ofChatbot || question.length === 0) return null;
    const { greeting, ...conversation } = ofChatbot;
    const history = newest.reverse().flatMap((message) => {
      const isGreeting = message.sender === 'ai' && message.reply_id === null;
      if (!isGreeting) return [message];
      // As it is stored it holds what the guest gave as a name, and would speak it as the chatbot.
      const content = greet(greeting ?? '', null);
      return content.trim() === '' ? [] : [{ ...message, content }];
    });
    return { ...conversation, history, question };
  }

  /** A worker that was not in time for the job of counting a chatbot's texts counts them now, once for all replies. */
  private async readCounted(sessionId: string): Promise<OfChatbot | null> {
    const [session, characteristics] = await this.readChatbot(sessionId);
    if (!session) return null;
    const isCounted =
      (session.instructions === null || session.is_counted) &&
      characteristics.every(({ is_counted }) => is_counted);
    if (isCounted) return toOfChatbot(session, characteristics);
    await this.tokenCounter.count(session.chatbot_id);
    const [counted, countedCharacteristics] = await this.readChatbot(sessionId);
    return counted ? toOfChatbot(counted, countedCharacteristics) : null;
  }

  private readChatbot(sessionId: string) {
    return Promise.all([
      this.database.read((db) =>
        db
          .selectFrom('chat_sessions as s')
          .innerJoin('chatbots as c', 'c.id', 's.chatbot_id')
          .leftJoin('guests as g', 'g.id', 's.guest_id')
          .select([
            's.chatbot_id',
            'c.name',
            'c.model',
            'c.greeting',
            'c.instructions',
            'c.instructions_tokens',
            'c.daily_token_budget',
            'c.unavailable_message',
          ])
          .select(['c.is_counted', 'g.name as guest_name'])
          .where('s.id', '=', sessionId)
          .executeTakeFirst(),
      ),
      this.database.read((db) =>
        db
          .selectFrom('chatbot_characteristics')
          .select(['content', 'tokens', 'is_counted'])
          .where('chatbot_id', '=', (eb) =>
            eb.selectFrom('chat_sessions').select('chatbot_id').where('id', '=', sessionId),
          )
          .orderBy('created_at')
          .orderBy('id')
          .execute(),
      ),
    ]);
  }

  /** The question oldest first, the history newest first. */
  private readMessages(sessionId: string, replyId: string): Promise<[MessageRow[], MessageRow[]]> {
    return Promise.all([
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
          // Not what was said instead of an answer.
          .where((eb) =>
            eb.not(
              eb.and([
                eb('m.sender', '=', 'ai'),
                eb(eb.fn.coalesce('r.finish_reason', eb.val('stop')), '=', ReplyFinishReason.Budget),
              ]),
            ),
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
  }
}

interface ChatbotRow {
  name: string;
  model: string | null;
  greeting: string | null;
  instructions: string | null;
  instructions_tokens: number | null;
  daily_token_budget: number | null;
  unavailable_message: string | null;
  guest_name: string | null;
}
type CharacteristicRow = Pick<Row<'chatbot_characteristics'>, 'content' | 'tokens'>;

/** Texts that changed again while they were counted go by what they have at most. */
const toOfChatbot = (chatbot: ChatbotRow, characteristics: readonly CharacteristicRow[]): OfChatbot => ({
  chatbotName: chatbot.name,
  model: chatbot.model,
  dailyTokenBudget: chatbot.daily_token_budget,
  unavailableMessage: chatbot.unavailable_message,
  greeting: chatbot.greeting,
  instructions:
    chatbot.instructions === null
      ? null
      : {
          text: chatbot.instructions,
          tokens: chatbot.instructions_tokens ?? tokensOfInstructions(chatbot.instructions),
        },
  characteristics: characteristics.map(({ content, tokens }) => ({
    text: content,
    tokens: tokens ?? tokensOfCharacteristic(content),
  })),
  guestName: chatbot.guest_name,
});
