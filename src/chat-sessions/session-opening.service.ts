import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { createSessionSecrets } from '../auth/session-tokens.js';
import { notFound } from '../runtime/app-error.js';
import { newId } from '../database/columns.js';
import { type ChatSessionRow, sessionColumns, sessionTables } from '../conversations/session-access.js';
import { type OpenSessionDto, toChatSessionDto } from './chat-session.dto.js';
import { Database, runOn } from '../database/database.js';
import { messageColumns, type MessageRow, timeOfNewest, toMessageDto } from '../conversations/message.dto.js';
import type { OpenedSessionDto } from './opened-session.dto.js';
import { ReplyEventPublisher } from '../conversations/reply-event-publisher.js';

/** Opens sessions: the guest, the token, and the greeting as the first AI message. */
@Injectable()
export class SessionOpeningService {
  constructor(
    private readonly database: Database,
    private readonly publisher: ReplyEventPublisher,
  ) {}

  /** @returns the answer, and the cursor from which the session's events begin */
  async open(chatbotId: string, dto: OpenSessionDto): Promise<{ opened: OpenedSessionDto; cursor: string }> {
    const sessionId = newId();
    const { token, tokenHash, eventTokenKey } = createSessionSecrets();
    const name = dto.guest?.name ?? null;
    const email = dto.guest?.email ?? null;
    const stored = await this.database.transaction(async (em) => {
      // Shared with other openings, but not with a deletion.
      const [chatbot] = await runOn(
        em,
        sql<{ greeting: string | null }>`select greeting from chatbots where id = ${chatbotId} for key share`,
      );
      if (!chatbot) throw notFound();
      const guestId = name === null && email === null ? null : newId();
      if (guestId !== null) {
        await runOn(em, sql`insert into guests (id, name, email) values (${guestId}, ${name}, ${email})`);
      }
      const messages: MessageRow[] = [];
      const greeting = chatbot.greeting === null ? '' : fillIn(chatbot.greeting, name);
      const hasGreeting = greeting.trim() !== '';
      await runOn(
        em,
        sql`
          insert into chat_sessions
            (id, chatbot_id, guest_id, token_hash, event_token_key, message_count, last_message_at)
          values (${sessionId}, ${chatbotId}, ${guestId}, ${tokenHash}, ${eventTokenKey},
            ${hasGreeting ? 1 : 0}, ${hasGreeting ? sql`clock_timestamp()` : null})`,
      );
      if (hasGreeting) {
        messages.push(
          ...(await runOn(
            em,
            sql<MessageRow>`
              insert into messages (id, chat_session_id, sequence, sender, content, created_at)
              values (${newId()}, ${sessionId}, 1, 'ai', ${greeting}, ${timeOfNewest(sessionId)})
              returning ${messageColumns}`,
          )),
        );
      }
      const [session] = await runOn(
        em,
        sql<ChatSessionRow>`select ${sessionColumns} from ${sessionTables} where s.id = ${sessionId}`,
      );
      return { session: session!, messages };
    });
    // Nobody knows the session before this answer, so nothing can be told in it before this.
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

/** Puts the guest's name into a greeting; nothing where there is none. */
function fillIn(greeting: string, name: string | null): string {
  return greeting.replaceAll('{name}', () => name ?? '');
}
