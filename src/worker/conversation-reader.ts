import { Injectable } from '@nestjs/common';
import { type Expression, expressionBuilder, type RawBuilder, sql } from 'kysely';
import { greet } from '../chatbots/greeting.js';
import { tokensOfCharacteristic, tokensOfInstructions } from '../chatbots/prompt-room.js';
import { earlierReplies } from '../conversations/reply-store/retries.js';
import { ReplyFinishReason, ReplyStatus } from '../conversations/reply-status.js';
import type { MessageRow } from '../conversations/message.dto.js';
import { Database } from '../database/database.js';
import type { Row, Tables } from '../database/tables.js';
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

type OfChatbot = Omit<Conversation, 'history' | 'question'>;

/** Reads what a claimed reply answers. To be called after the claim has committed, when no message can join any more. */
@Injectable()
export class ConversationReader {
  constructor(
    private readonly database: Database,
    private readonly tokenCounter: TokenCounter,
  ) {}

  /**
   * In one round trip; in two where a worker was not in time for the job of counting a chatbot's texts, and counts them now, once
   * for all replies.
   *
   * @returns null where the session is gone
   */
  async read(sessionId: string, replyId: string): Promise<Conversation | null> {
    let read = await this.readOnce(sessionId, replyId);
    if (!read) return null;
    if (!isCounted(read)) {
      await this.tokenCounter.count(read.chatbot_id);
      read = await this.readOnce(sessionId, replyId);
      if (!read) return null;
    }
    const { greeting, question, newest } = read;
    if (question.length === 0) return null;
    const history = newest.toReversed().flatMap((message) => {
      const isGreeting = message.sender === 'ai' && message.reply_id === null;
      if (!isGreeting) return [message];
      // As it is stored it holds what the guest gave as a name, and would speak it as the chatbot.
      const content = greet(greeting ?? '', null);
      return content.trim() === '' ? [] : [{ ...message, content }];
    });
    return { ...toOfChatbot(read), history, question };
  }

  private readOnce(sessionId: string, replyId: string) {
    return this.database.read((db) =>
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
          'c.is_counted',
          'g.name as guest_name',
        ])
        .select((eb) => [
          listOf<CharacteristicRow>(
            eb
              .selectFrom('chatbot_characteristics as of_chatbot')
              .select(['content', 'tokens', 'is_counted'])
              .whereRef('of_chatbot.chatbot_id', '=', 'c.id')
              .orderBy('created_at')
              .orderBy('id'),
          ).as('characteristics'),
          listOf<MessageRow>(
            eb
              .selectFrom('messages as asked')
              .selectAll()
              .where('reply_id', '=', replyId)
              .where('sender', '=', 'user')
              .orderBy('sequence'),
          ).as('question'),
          listOf<MessageRow>(this.newest(sessionId, replyId)).as('newest'),
        ])
        .where('s.id', '=', sessionId)
        .executeTakeFirst(),
    );
  }

  /** What came before the reply, newest first. */
  private newest(sessionId: string, replyId: string) {
    return (
      expressionBuilder<Tables>()
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
        // Not what this one is made instead of, nor what another was made instead of.
        .where((eb) =>
          eb.not(
            eb.and([
              eb('m.sender', '=', 'ai'),
              eb.or([
                eb('m.superseded_by', 'is not', null),
                sql<boolean>`r.id in ${earlierReplies(replyId)}`,
                // A cancelled text that was asked for again; an answer stays one until the other has completed.
                eb.and([
                  eb('r.status', '<>', ReplyStatus.Completed),
                  eb.exists(
                    eb
                      .selectFrom('replies as again')
                      .select('again.id')
                      .whereRef('again.retry_of_id', '=', 'r.id'),
                  ),
                ]),
              ]),
            ]),
          ),
        )
        .orderBy('m.sequence', 'desc')
        .limit(HISTORY_LIMIT)
    );
  }
}

/** The rows of a query as one value. */
const listOf = <Row>(query: Expression<unknown>): RawBuilder<Row[]> =>
  sql<Row[]>`coalesce((select json_agg(row_to_json(one_row)) from (${query}) as one_row), '[]')`;

const isCounted = ({ instructions, is_counted, characteristics }: ChatbotRow): boolean =>
  (instructions === null || is_counted) && characteristics.every((one) => one.is_counted);

interface ChatbotRow extends Pick<
  Row<'chatbots'>,
  | 'name'
  | 'model'
  | 'greeting'
  | 'instructions'
  | 'instructions_tokens'
  | 'is_counted'
  | 'daily_token_budget'
  | 'unavailable_message'
> {
  guest_name: string | null;
  characteristics: CharacteristicRow[];
}
type CharacteristicRow = Pick<Row<'chatbot_characteristics'>, 'content' | 'tokens' | 'is_counted'>;

/** Texts that changed again while they were counted go by what they have at most. */
const toOfChatbot = (chatbot: ChatbotRow): OfChatbot => ({
  chatbotName: chatbot.name,
  model: chatbot.model,
  dailyTokenBudget: chatbot.daily_token_budget,
  unavailableMessage: chatbot.unavailable_message,
  instructions:
    chatbot.instructions === null
      ? null
      : {
          text: chatbot.instructions,
          tokens: chatbot.instructions_tokens ?? tokensOfInstructions(chatbot.instructions),
        },
  characteristics: chatbot.characteristics.map(({ content, tokens }) => ({
    text: content,
    tokens: tokens ?? tokensOfCharacteristic(content),
  })),
  guestName: chatbot.guest_name,
});
