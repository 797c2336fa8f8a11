import { Injectable } from '@nestjs/common';
import type { Person } from '../auth/identity-tokens.js';
import { createSessionSecrets } from '../auth/session-tokens.js';
import { AppError, chatbotDisabled, notFound } from '../runtime/app-error.js';
import { greet } from '../chatbots/greeting.js';
import { newId } from '../database/columns.js';
import { selectSessions } from '../auth/selected-session.js';
import { type OpenSessionDto, toChatSessionDto } from './chat-session.dto.js';
import { RateLimits, StoreDown } from '../limits/rate-limits.js';
import { Database, now } from '../database/database.js';
import type { Tx } from '../database/tables.js';
import { type MessageRow, timeOfNewest, toMessageDto } from '../conversations/message.dto.js';
import type { OpenedSessionDto } from './opened-session.dto.js';
import { ReplyEventPublisher } from '../conversations/reply-event-publisher.js';

/** Opens sessions: the guest, the token, and the greeting as the first AI message. */
@Injectable()
export class SessionOpeningService {
  constructor(
    private readonly database: Database,
    private readonly limits: RateLimits,
    private readonly publisher: ReplyEventPublisher,
  ) {}

  /**
   * @param person whom the owner has vouched for; null: nobody
   * @param address the caller's
   * @returns the answer, and the cursor from which the session's events begin
   * @throws AppError rate_limited, not_found, chatbot_disabled; unauthorized where it takes known people alone
   */
  async open(
    chatbotId: string,
    dto: OpenSessionDto,
    person: Person | null,
    address: string,
  ): Promise<{ opened: OpenedSessionDto; cursor: string }> {
    // Read before anything is counted, since it may have limits of its own; one that there is not counts all the same.
    const limited = await this.database.read((db) =>
      db.selectFrom('chatbots').select(['id', 'limits']).where('id', '=', chatbotId).executeTakeFirst(),
    );
    await this.limits.take(
      [
        { limit: 'sessionsPerAddress', of: address },
        { limit: 'sessionsPerChatbot', of: chatbotId },
      ],
      limited ?? null,
      StoreDown.Allow,
    );
    const sessionId = newId();
    const { token, tokenHash, eventTokenKey } = createSessionSecrets();
    const name = person?.name ?? dto.guest?.name ?? null;
    const email = person?.email ?? dto.guest?.email ?? null;
    const stored = await this.database.transaction(async (tx) => {
      // Shared with other openings, but not with a deletion.
      const chatbot = await tx
        .selectFrom('chatbots')
        .select(['greeting', 'is_enabled', 'requires_identity'])
        .where('id', '=', chatbotId)
        .forKeyShare()
        .executeTakeFirst();
      if (!chatbot) throw notFound();
      if (!chatbot.is_enabled) throw chatbotDisabled();
      if (chatbot.requires_identity && person === null) throw identityRequired();
      const guestId = await storeGuest(tx, chatbotId, person?.externalId ?? null, { name, email });
      let messages: MessageRow[] = [];
      const greeting = chatbot.greeting === null ? '' : greet(chatbot.greeting, name);
      const hasGreeting = greeting.trim() !== '';
      await tx
        .insertInto('chat_sessions')
        .values({
          id: sessionId,
          chatbot_id: chatbotId,
          guest_id: guestId,
          token_hash: tokenHash,
          event_token_key: eventTokenKey,
          message_count: hasGreeting ? 1 : 0,
          message_chars: hasGreeting ? greeting.length : 0,
          last_message_at: hasGreeting ? now : null,
        })
        .execute();
      if (hasGreeting) {
        messages = await tx
          .insertInto('messages')
          .values({
            id: newId(),
            chat_session_id: sessionId,
            sequence: 1,
            sender: 'ai',
            content: greeting,
            created_at: timeOfNewest(sessionId),
          })
          .returningAll()
          .execute();
      }
      const session = await selectSessions(tx).where('s.id', '=', sessionId).executeTakeFirstOrThrow();
      return { session, messages };
    });
    // No client has the session's id before this answer, so no event can precede this cursor.
    const cursor = await this.publisher.cursor(sessionId);
    return {
      opened: {
        session: toChatSessionDto(stored.session),
        token,
        messages: stored.messages.map(toMessageDto),
      },
      cursor,
    };
  }
}

const identityRequired = (): AppError =>
  new AppError('unauthorized', 'This chat is for people alone who are signed in where it is embedded.');

/** A person who is known is the same guest each time; what is told of it now counts. @returns null for somebody unknown and unnamed */
async function storeGuest(
  tx: Tx,
  chatbotId: string,
  externalId: string | null,
  { name, email }: { name: string | null; email: string | null },
): Promise<string | null> {
  if (externalId === null && name === null && email === null) return null;
  const { id } = await tx
    .insertInto('guests')
    .values({ id: newId(), chatbot_id: chatbotId, external_id: externalId, name, email })
    .onConflict((conflict) =>
      conflict
        .columns(['chatbot_id', 'external_id'])
        .where('external_id', 'is not', null)
        .doUpdateSet((eb) => ({
          name: eb.fn.coalesce('excluded.name', 'guests.name'),
          email: eb.fn.coalesce('excluded.email', 'guests.email'),
        })),
    )
    .returning('id')
    .executeTakeFirstOrThrow();
  return id;
}
