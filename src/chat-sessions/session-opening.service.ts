import { Injectable } from '@nestjs/common';
import { createSessionSecrets } from '../auth/session-tokens.js';
import { chatbotDisabled, notFound } from '../runtime/app-error.js';
import { greet } from '../chatbots/greeting.js';
import { newId } from '../database/columns.js';
import { selectSessions } from '../conversations/session-access.js';
import { type OpenSessionDto, toChatSessionDto } from './chat-session.dto.js';
import { RateLimits, StoreDown } from '../limits/rate-limits.js';
import { Database, now } from '../database/database.js';
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
   * @param address the caller's
   * @returns the answer, and the cursor from which the session's events begin
   * @throws AppError rate_limited, not_found, chatbot_disabled
   */
  async open(
    chatbotId: string,
    dto: OpenSessionDto,
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
    const name = dto.guest?.name ?? null;
    const email = dto.guest?.email ?? null;
    const stored = await this.database.transaction(async (tx) => {
      // Shared with other openings, but not with a deletion.
      const chatbot = await tx
        .selectFrom('chatbots')
        .select(['greeting', 'is_enabled'])
        .where('id', '=', chatbotId)
        .forKeyShare()
        .executeTakeFirst();
      if (!chatbot) throw notFound();
      if (!chatbot.is_enabled) throw chatbotDisabled();
      const guestId = name === null && email === null ? null : newId();
      if (guestId !== null)
        await tx.insertInto('guests').values({ id: guestId, chatbot_id: chatbotId, name, email }).execute();
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
