import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createHash } from 'node:crypto';
import type { ApiClient } from '../support/api-client.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** How long a guest's token is good, and how many a session may have. */

let stack: Stack;
let chatbotId: string;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0, timings: { reconcileIntervalMs: 20 } });
  chatbotId = (await stack.owner().createChatbot()).id;
});
afterAll(() => stack.stop());

const hashOf = (token: string): string => createHash('sha256').update(token).digest('hex');

async function open(): Promise<{ sessionId: string; guest: ApiClient; hash: string }> {
  const { session, guest, token } = await stack.client().openSession(chatbotId);
  return { sessionId: session.id, guest, hash: hashOf(token) };
}

const statusOf = async (guest: ApiClient, sessionId: string): Promise<number> =>
  (await guest.get(`/v1/sessions/${sessionId}`)).status;

const unusedFor = (hash: string, time: string): Promise<unknown> =>
  stack.database.query(
    `update session_tokens set used_at = clock_timestamp() - $2::interval where hash = $1`,
    [hash, time],
  );

async function idleSeconds(hash: string): Promise<number> {
  const [row] = await stack.database.query<{ seconds: number }>(
    `select extract(epoch from clock_timestamp() - used_at)::float8 as seconds from session_tokens where hash = $1`,
    [hash],
  );
  return row!.seconds;
}

describe('the token of a session', () => {
  it('ends after thirty days without use, and the session stays', async () => {
    const { sessionId, guest, hash } = await open();
    await unusedFor(hash, '29 days 23 hours');
    expect(await statusOf(guest, sessionId)).toBe(200);
    // Beside the request: late, it would undo what is pretended next.
    await waitFor('its use to be noted', async () => (await idleSeconds(hash)) < 3_600);
    await unusedFor(hash, '30 days 1 minute');

    expect(await statusOf(guest, sessionId)).toBe(401);

    expect(await statusOf(stack.owner(), sessionId)).toBe(200);
    await waitFor('the token to be deleted', async () => {
      const rows = await stack.database.query(`select 1 from session_tokens where hash = $1`, [hash]);
      return rows.length === 0;
    });
  });

  it('is kept by its use, which is noted once an hour', async () => {
    const { sessionId, guest, hash } = await open();
    await unusedFor(hash, '2 hours');

    expect(await statusOf(guest, sessionId)).toBe(200);
    await waitFor('the use to be noted', async () => (await idleSeconds(hash)) < 60);

    await unusedFor(hash, '50 minutes');
    await statusOf(guest, sessionId);
    await statusOf(guest, sessionId);
    expect(await idleSeconds(hash)).toBeGreaterThan(40 * 60);
  });

  it('may be one of twenty: the oldest goes, and no other session loses any', async () => {
    const { sessionId, guest } = await open();
    const other = await open();
    const tokens = Array.from({ length: 20 }, (_, n) => `token ${n} of ${sessionId}`);
    for (const token of tokens) {
      await stack.database.query(`insert into session_tokens (hash, session_id) values ($1, $2)`, [
        hashOf(token),
        sessionId,
      ]);
    }

    expect(await statusOf(guest, sessionId)).toBe(401);
    expect(await statusOf(other.guest, other.sessionId)).toBe(200);
    const rows = await stack.database.query<{ hash: string }>(
      `select hash from session_tokens where session_id = $1 order by created_at`,
      [sessionId],
    );
    expect(rows.map(({ hash }) => hash).sort()).toEqual(tokens.map(hashOf).sort());
  });

  it('is good where an older version opened the session', async () => {
    const { sessionId, guest } = await open();
    await stack.database.query(`delete from session_tokens where session_id = $1`, [sessionId]);
    expect(await statusOf(guest, sessionId)).toBe(401);
    await stack.database.query(
      `with gone as (delete from chat_sessions where id = $1 returning *) select 1 from gone`,
      [sessionId],
    );
    await stack.database.query(
      `insert into chat_sessions (id, chatbot_id, token_hash, event_token_key) values ($1, $2, $3, 'x')`,
      [sessionId, chatbotId, hashOf(guest.token ?? '')],
    );

    expect(await statusOf(guest, sessionId)).toBe(200);
  });

  it('goes with the session', async () => {
    const { sessionId, guest, hash } = await open();
    await stack.owner().delete(`/v1/sessions/${sessionId}`);

    expect(await statusOf(guest, sessionId)).toBe(401);
    expect(await stack.database.query(`select 1 from session_tokens where hash = $1`, [hash])).toEqual([]);
  });
});
