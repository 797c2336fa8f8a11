import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { MikroORM } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { ormOptions } from '../../mikro-orm.config.js';
import { newId } from '../../src/database/columns.js';
import { Database, runOn } from '../../src/database/database.js';
import { ReplyCancelling } from '../../src/conversations/reply-store/cancelling.js';
import { ReplyClaims } from '../../src/conversations/reply-store/claims.js';
import { ReplyDispatching } from '../../src/conversations/reply-store/dispatching.js';
import { ReplyPosting } from '../../src/conversations/reply-store/posting.js';
import { ReplyPublication } from '../../src/conversations/reply-store/publication.js';
import { ReplyReconciliation } from '../../src/conversations/reply-store/reconciliation.js';
import {
  type Claim,
  type Dispatch,
  ReplyTransitions,
} from '../../src/conversations/reply-store/transitions.js';
import { ReplyWaiting } from '../../src/conversations/reply-store/waiting.js';
import { Metrics } from '../../src/metrics/metrics.js';
import { ReplyMetrics } from '../../src/conversations/reply-metrics.js';
import type { ReplyRow } from '../../src/conversations/reply.dto.js';
import { PROCESS_NAME } from '../../src/runtime/process-name.js';
import { DEFAULT_TIMINGS } from '../../src/runtime/timings.js';
import { connected, createTestDatabase, type TestDatabase } from '../support/database.js';
import { waitFor } from '../support/wait.js';

const REPLY_ATTEMPTS = 3;
const { leaseMs: LEASE_MS } = DEFAULT_TIMINGS;
const REPLY_MAX_AGE_MS = 60_000;
/** As in the source: the ASCII codes of "rply". */
const RECONCILE_LOCK_KEY = 0x72706c79;
const USAGE = { inputTokens: 5, outputTokens: 2, isEstimated: false };
const ANSWER = { text: 'The answer.', finishReason: 'stop', usage: USAGE, firstTextMs: 500 } as const;

let testDatabase: TestDatabase;
let database: Database;
let posting: ReplyPosting;
let claims: ReplyClaims;
let cancelling: ReplyCancelling;
let dispatching: ReplyDispatching;
let publication: ReplyPublication;
let reconciliation: ReplyReconciliation;
let waiting: ReplyWaiting;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = new Database(new MikroORM(ormOptions(testDatabase.url, 5)));
  const config = {
    REPLY_ATTEMPTS,
    REPLY_MAX_AGE_MS,
    OPENAI_FALLBACK_MODEL: undefined,
    LIMIT_REPLY_MESSAGES: 20,
    LIMIT_REPLY_CHARS: 40_000,
    LIMIT_SESSION_MESSAGES: 2_000,
    LIMIT_SESSION_CHARS: 4_000_000,
  };
  const transitions = new ReplyTransitions(database, config, new ReplyMetrics(new Metrics()));
  posting = new ReplyPosting(database, config, DEFAULT_TIMINGS);
  claims = new ReplyClaims(database, config, transitions, DEFAULT_TIMINGS);
  cancelling = new ReplyCancelling(database, transitions);
  dispatching = new ReplyDispatching(database);
  publication = new ReplyPublication(database, DEFAULT_TIMINGS);
  reconciliation = new ReplyReconciliation(database, config, transitions, DEFAULT_TIMINGS);
  waiting = new ReplyWaiting(database, config);
});
afterAll(async () => {
  await database.close();
  await testDatabase.drop();
});
// What one test leaves unfinished would be found by the reconciler in another.
beforeEach(() => testDatabase.query('delete from chatbots'));

async function openSession(): Promise<string> {
  const [chatbotId, sessionId] = [newId(), newId()];
  await testDatabase.query(`insert into chatbots (id, clerk_user_id, name) values ($1, 'user_1', 'Bakery')`, [
    chatbotId,
  ]);
  await testDatabase.query(
    `insert into chat_sessions (id, chatbot_id, token_hash, event_token_key) values ($1, $2, $3, 'key')`,
    [sessionId, chatbotId, randomUUID()],
  );
  return sessionId;
}

const post = (sessionId: string, content = 'A question?') =>
  posting.post(
    { sessionId, isEnabled: true, unanswered: null },
    { content, clientMessageId: null },
    'request-1',
    null,
    'cursor',
  );

async function claimed(sessionId?: string): Promise<{ sessionId: string; replyId: string; claim: Claim }> {
  const session = sessionId ?? (await openSession());
  const { reply } = await post(session);
  const result = await claims.claim(reply.id);
  if (!result) throw new Error('the reply was not claimed');
  return { sessionId: session, replyId: reply.id, claim: result.claim };
}

/** The whole row, for comparing before and after. */
async function rowOf(replyId: string): Promise<Record<string, unknown>> {
  const [row] = await testDatabase.query<{ row: Record<string, unknown> }>(
    'select to_jsonb(replies) as row from replies where id = $1',
    [replyId],
  );
  return row!.row;
}

/** Moves a reply's times, or anything else of it. */
const change = (replyId: string, assignments: string): Promise<unknown> =>
  testDatabase.query(`update replies set ${assignments} where id = $1`, [replyId]);

const expireLease = (replyId: string): Promise<unknown> =>
  change(replyId, `lease_until = clock_timestamp() - interval '1 second'`);
/** Cut to the column's milliseconds: PostgreSQL would round up to half of one into the future. */
const makeDue = (replyId: string): Promise<unknown> =>
  change(replyId, "available_at = date_trunc('milliseconds', clock_timestamp())");

async function messagesOf(
  sessionId: string,
): Promise<{ sequence: number; sender: string; content: string; reply_id: string }[]> {
  return testDatabase.query(
    'select sequence, sender, content, reply_id from messages where chat_session_id = $1 order by sequence',
    [sessionId],
  );
}

/** Loses the claim to the next attempt. */
async function overtaken(): Promise<{ sessionId: string; replyId: string; old: Claim; current: Claim }> {
  const { sessionId, replyId, claim } = await claimed();
  await claims.handBack(claim);
  const next = await claims.claim(replyId);
  return { sessionId, replyId, old: claim, current: next!.claim };
}

describe('posting', () => {
  it('stores message and reply together, and gives a job to enqueue for the first reply of a session', async () => {
    const sessionId = await openSession();

    const { message, reply, dispatch } = await post(sessionId, 'Hello?');

    expect(message).toMatchObject({ sequence: 1, sender: 'user', content: 'Hello?', reply_id: reply.id });
    expect(reply).toMatchObject({ status: 'queued', attempt: 0, chat_session_id: sessionId });
    expect(dispatch).toEqual({
      replyId: reply.id,
      sessionId,
      chatbotId: expect.any(String) as unknown as string,
      number: 1,
      delayMs: 0,
      dueAt: expect.any(String) as unknown as string,
      requestId: 'request-1',
    } satisfies Dispatch);
  });

  it('joins the queued reply, whose job was enqueued already', async () => {
    const sessionId = await openSession();
    const first = await post(sessionId);

    const second = await post(sessionId);

    expect(second.reply.id).toBe(first.reply.id);
    expect(second.dispatch).toBeNull();
  });

  it('queues a reply without a job or a deadline while another one is in progress', async () => {
    const { sessionId, replyId } = await claimed();

    const { reply, dispatch } = await post(sessionId);

    expect(reply.id).not.toBe(replyId);
    expect(dispatch).toBeNull();
    expect(await rowOf(reply.id)).toMatchObject({
      status: 'queued',
      available_at: null,
      deadline_at: null,
      dispatched_at: null,
    });
    expect(await claims.claim(reply.id)).toBeNull();
  });

  it('fails where the session is gone', async () => {
    await expect(post(newId())).rejects.toMatchObject({ code: 'not_found' });
  });
});

describe('a claim', () => {
  it('takes a due queued reply: in progress, the next attempt, a lease', async () => {
    const { reply } = await post(await openSession());

    const result = await claims.claim(reply.id);

    expect(result?.claim).toMatchObject({ replyId: reply.id, attempt: 1, leaseToken: expect.any(String) });
    expect(result?.reply).toMatchObject({
      status: 'in_progress',
      attempt: 1,
      started_at: expect.any(String),
    });
    const [lease] = await testDatabase.query<{ ms: number }>(
      'select extract(epoch from lease_until - clock_timestamp())::float * 1000 as ms from replies where id = $1',
      [reply.id],
    );
    expect(lease!.ms).toBeGreaterThan(LEASE_MS - 5_000);
    expect(lease!.ms).toBeLessThanOrEqual(LEASE_MS);
  });

  it('is given to one of many who try at once', async () => {
    const { reply } = await post(await openSession());

    const results = await Promise.all(Array.from({ length: 10 }, () => claims.claim(reply.id)));

    expect(results.filter((result) => result !== null)).toHaveLength(1);
    expect(await rowOf(reply.id)).toMatchObject({ attempt: 1 });
  });

  it.each([
    ['is unknown', () => Promise.resolve(newId())],
    ['is leased', async () => (await claimed()).replyId],
    [
      'has a lease that ran out, which the reconciler charges first',
      async () => {
        const { replyId } = await claimed();
        await expireLease(replyId);
        return replyId;
      },
    ],
    [
      'is not due yet',
      async () => {
        const { replyId, claim } = await claimed();
        await claims.retryLater(claim, 'provider_timeout', 10_000);
        return replyId;
      },
    ],
    [
      'is past its deadline',
      async () => {
        const { reply } = await post(await openSession());
        await change(reply.id, `deadline_at = clock_timestamp() - interval '1 second'`);
        return reply.id;
      },
    ],
    [
      'has spent its budget',
      async () => {
        const { reply } = await post(await openSession());
        await change(reply.id, `failures = ${REPLY_ATTEMPTS}`);
        return reply.id;
      },
    ],
    [
      'is to be cancelled',
      async () => {
        const { reply } = await post(await openSession());
        await cancelling.requestCancel(reply.id, 'guest');
        return reply.id;
      },
    ],
    [
      'is completed',
      async () => {
        const { replyId, claim } = await claimed();
        await claims.complete(claim, ANSWER);
        return replyId;
      },
    ],
    [
      'has failed',
      async () => {
        const { replyId, claim } = await claimed();
        await claims.fail(claim, 'provider_rejected');
        return replyId;
      },
    ],
    [
      'is cancelled',
      async () => {
        const { sessionId, replyId } = await claimed();
        await cancelling.cancel(sessionId, replyId, null);
        return replyId;
      },
    ],
  ])('is refused for a reply that %s', async (_, arrange) => {
    const replyId = await arrange();

    expect(await claims.claim(replyId)).toBeNull();
  });

  it('is refused by the database where another reply of the session is in progress', async () => {
    const { sessionId } = await claimed();
    const { reply } = await post(sessionId);
    await makeDue(reply.id); // as if somebody had let it go too early
    await change(reply.id, `deadline_at = clock_timestamp() + interval '1 minute'`);

    expect(await claims.claim(reply.id)).toBeNull();
    expect(await rowOf(reply.id)).toMatchObject({ status: 'queued', attempt: 0 });
  });

  it('clears the text that an earlier attempt left', async () => {
    const { replyId, claim } = await claimed();
    await claims.checkpoint(claim, 'Half an ans', 0);
    await claims.handBack(claim);

    await claims.claim(replyId);

    expect(await rowOf(replyId)).toMatchObject({ attempt: 2, partial_text: null });
  });
});

describe('the fence', () => {
  const writes: [string, (claim: Claim) => Promise<unknown>, unknown][] = [
    ['a heartbeat', (claim) => claims.heartbeat(claim), false],
    ['the note of a call', (claim) => claims.beginCall(claim, 'model', 5, { used: 1, of: 2 }), false],
    ['a checkpoint', (claim) => claims.checkpoint(claim, 'text', 0), false],
    ['a completion', (claim) => claims.complete(claim, ANSWER), null],
    ['a failure', (claim) => claims.fail(claim, 'internal'), null],
    ['a retry', (claim) => claims.retryLater(claim, 'provider_timeout', 1_000), null],
    ['a hand-back', (claim) => claims.handBack(claim), null],
  ];

  it.each(writes)('keeps out %s of an attempt that was overtaken', async (_, write, refusal) => {
    const { sessionId, replyId, old } = await overtaken();
    const before = await rowOf(replyId);

    expect(await write(old)).toBe(refusal);

    expect(await rowOf(replyId)).toEqual(before);
    expect(await messagesOf(sessionId)).toHaveLength(1);
  });

  it.each(writes)('keeps out %s after the end', async (_, write, refusal) => {
    const { sessionId, replyId, claim } = await claimed();
    await claims.complete(claim, ANSWER);
    const before = await rowOf(replyId);

    expect(await write(claim)).toBe(refusal);

    expect(await rowOf(replyId)).toEqual(before);
    expect(await messagesOf(sessionId)).toHaveLength(2);
  });

  it.each(writes)('keeps out %s of an attempt whose session is deleted', async (_, write, refusal) => {
    const { sessionId, claim } = await claimed();
    await testDatabase.query('delete from chat_sessions where id = $1', [sessionId]);

    expect(await write(claim)).toBe(refusal);
  });

  it('lets the holder write: heartbeat, call, checkpoint', async () => {
    const { replyId, claim } = await claimed();
    await change(replyId, `lease_until = clock_timestamp() + interval '1 second'`);

    expect(await claims.heartbeat(claim)).toBe(true);
    expect(await claims.beginCall(claim, 'a-model', 123, { used: 1, of: 2 })).toBe(true);
    expect(await claims.checkpoint(claim, 'Half an ans', 0)).toBe(true);

    const row = await rowOf(replyId);
    expect(row).toMatchObject({
      model: 'a-model',
      input_tokens: 123,
      output_tokens: null,
      is_usage_estimated: true,
      partial_text: 'Half an ans',
      first_token_at: expect.any(String),
    });
    expect(Date.parse(String(row['lease_until'])) - Date.now()).toBeGreaterThan(LEASE_MS - 5_000);
  });

  it('tells the holder at its heartbeat that the reply is to be cancelled', async () => {
    const { replyId, claim } = await claimed();
    await cancelling.requestCancel(replyId, 'guest');

    expect(await claims.heartbeat(claim)).toBe(false);
  });
});

describe('a completion', () => {
  it('stores message, end and usage at once, and lets the next reply go', async () => {
    const { sessionId, replyId, claim } = await claimed();
    const next = await post(sessionId, 'And another?');

    const finished = await claims.complete(claim, ANSWER);

    expect(finished?.reply).toMatchObject({
      status: 'completed',
      finish_reason: 'stop',
      input_tokens: 5,
      output_tokens: 2,
      is_usage_estimated: false,
      message_id: finished?.message?.id,
      finished_at: expect.any(String),
    });
    expect(await messagesOf(sessionId)).toEqual([
      { sequence: 1, sender: 'user', content: 'A question?', reply_id: replyId },
      { sequence: 2, sender: 'user', content: 'And another?', reply_id: next.reply.id },
      { sequence: 3, sender: 'ai', content: 'The answer.', reply_id: replyId },
    ]);
    expect(finished?.next).toEqual({
      replyId: next.reply.id,
      sessionId,
      chatbotId: expect.any(String) as unknown as string,
      number: 1,
      delayMs: 0,
      dueAt: expect.any(String) as unknown as string,
      requestId: 'request-1',
    } satisfies Dispatch);
    const row = await rowOf(next.reply.id);
    expect(Date.parse(String(row['deadline_at'])) - Date.now()).toBeGreaterThan(REPLY_MAX_AGE_MS - 5_000);
    expect(await claims.claim(next.reply.id)).not.toBeNull();
  });

  it('stores nothing where any part of it is refused', async () => {
    const { sessionId, replyId, claim } = await claimed();
    await testDatabase.query(
      `insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
       values ($1, $2, 1000, 'ai', 'An intruder', $3)`,
      [newId(), sessionId, replyId],
    );

    await expect(claims.complete(claim, ANSWER)).rejects.toThrow();

    expect(await rowOf(replyId)).toMatchObject({ status: 'in_progress', finished_at: null });
    expect(await messagesOf(sessionId)).toHaveLength(2);
  });

  it('happens once where many try at once', async () => {
    const { sessionId, claim } = await claimed();

    const ends = await Promise.all(Array.from({ length: 5 }, () => claims.complete(claim, ANSWER)));

    expect(ends.filter((end) => end !== null)).toHaveLength(1);
    expect(await messagesOf(sessionId)).toHaveLength(2);
  });

  it('and a cancel at once end in one of them', async () => {
    for (let round = 0; round < 20; round++) {
      const { sessionId, replyId, claim } = await claimed();

      const [completion, cancellation] = await Promise.all([
        claims.complete(claim, ANSWER),
        cancelling.cancel(sessionId, replyId, 'The ans'),
      ]);

      expect([completion, cancellation].filter((end) => end !== null)).toHaveLength(1);
      const [, message, ...more] = await messagesOf(sessionId);
      expect(more).toEqual([]);
      expect(message?.content).toBe(completion ? 'The answer.' : 'The ans');
    }
  });
});

describe('a failed attempt', () => {
  it('is charged, and the reply stays in progress without a lease until its pause is over', async () => {
    const { sessionId, replyId, claim } = await claimed();

    const result = await claims.retryLater(claim, 'provider_timeout', 5_000);

    expect(result).toEqual({
      retry: {
        replyId,
        sessionId,
        chatbotId: expect.any(String) as unknown as string,
        number: 2,
        delayMs: 5_000,
        dueAt: expect.any(String),
        requestId: 'request-1',
      },
    });
    expect(await rowOf(replyId)).toMatchObject({
      status: 'in_progress',
      failures: 1,
      attempt: 1,
      lease_token: null,
      lease_until: null,
    });
    expect(await claims.claim(replyId)).toBeNull();
    await makeDue(replyId);
    expect((await claims.claim(replyId))?.claim.attempt).toBe(2);
  });

  it('is the last one when the budget is spent: the reply fails with its code, and the next may go', async () => {
    const { sessionId, replyId, claim } = await claimed();
    const next = await post(sessionId);
    await change(replyId, `failures = ${REPLY_ATTEMPTS - 1}`);

    const result = await claims.retryLater(claim, 'provider_timeout', 5_000);

    expect(result).toMatchObject({
      finished: {
        reply: { status: 'failed', error_code: 'provider_timeout', message_id: null },
        message: null,
        next: { replyId: next.reply.id },
      },
    });
    expect(await messagesOf(sessionId)).toHaveLength(2);
  });

  it('is the last one when the pause would end after the deadline', async () => {
    const { claim } = await claimed();

    const result = await claims.retryLater(claim, 'provider_rate_limited', REPLY_MAX_AGE_MS);

    expect(result).toMatchObject({
      finished: { reply: { status: 'failed', error_code: 'provider_rate_limited' } },
    });
  });
});

describe('a hand-back', () => {
  it('is not charged, and the reply is due at once', async () => {
    const { sessionId, replyId, claim } = await claimed();

    expect(await claims.handBack(claim)).toEqual({
      replyId,
      sessionId,
      chatbotId: expect.any(String) as unknown as string,
      number: 2,
      delayMs: 0,
      dueAt: expect.any(String) as unknown as string,
      requestId: 'request-1',
    } satisfies Dispatch);

    expect(await rowOf(replyId)).toMatchObject({ failures: 0, attempt: 1, lease_token: null });
    expect((await claims.claim(replyId))?.claim.attempt).toBe(2);
  });
});

describe('a job that comes before its time', () => {
  it('is postponed by the rest of the pause, with a job of its own', async () => {
    const { replyId, claim } = await claimed();
    await claims.retryLater(claim, 'provider_timeout', 30_000);

    const dispatch = await dispatching.postpone(replyId, 2);

    expect(dispatch).toMatchObject({ replyId, number: 3 });
    expect(dispatch!.delayMs).toBeGreaterThan(10_000);
    expect(dispatch!.delayMs).toBeLessThanOrEqual(30_000);
    expect(await dispatching.postpone(replyId, 2)).toBeNull(); // a later one was enqueued
  });

  it.each([
    ['due', async (replyId: string) => void (await makeDue(replyId))],
    [
      'claimed',
      async (replyId: string) => {
        await makeDue(replyId);
        await claims.claim(replyId);
      },
    ],
    [
      'final',
      async (replyId: string) => {
        await makeDue(replyId);
        await claims.fail((await claims.claim(replyId))!.claim, 'internal');
      },
    ],
  ])('is left alone where the reply is %s', async (_, arrange) => {
    const { replyId, claim } = await claimed();
    await claims.retryLater(claim, 'provider_timeout', 5_000);
    await arrange(replyId);

    expect(await dispatching.postpone(replyId, 2)).toBeNull();
  });
});

describe('the reply whose turn it is', () => {
  const NOBODY = { chatbots: [], owners: [], replies: [] };

  it('gets another job; where none waits there is none', async () => {
    expect(await waiting.dispatchNext(NOBODY)).toEqual({ isWaiting: false, next: null });
    const { reply } = await post(await openSession());

    const { isWaiting, next } = await waiting.dispatchNext(NOBODY);

    expect(isWaiting).toBe(true);
    expect(next).toMatchObject({ replyId: reply.id, number: 2, delayMs: 0 });
    expect(await waiting.dispatchNext({ ...NOBODY, replies: [reply.id] })).toEqual({
      isWaiting: false,
      next: null,
    });
  });

  it('is not taken for the only one where another job claims it in this instant', async () => {
    const first = await post(await openSession());
    await post(await openSession());

    const dispatched = await connected(testDatabase.url, async (other) => {
      await other.query('begin');
      await other.query(
        `update replies set status = 'in_progress', lease_token = gen_random_uuid(), lease_until = now()
          where id = $1`,
        [first.reply.id],
      );
      const dispatching = waiting.dispatchNext(NOBODY);
      await waitFor('it to wait for the row', async () => {
        const [{ n } = { n: 0 }] = await testDatabase.query<{ n: number }>(
          `select count(*)::int as n from pg_locks where not granted and pid in
            (select pid from pg_stat_activity where datname = current_database())`,
        );
        return n > 0;
      });
      await other.query('commit');
      return dispatching;
    });

    expect(dispatched).toEqual({ isWaiting: true, next: null });
  });
});

describe('a pause that an operator ends', () => {
  it('is over at once: the reply is due, and charged what it was', async () => {
    const { replyId, claim } = await claimed();
    await claims.retryLater(claim, 'provider_rate_limited', 10_000);

    await dispatching.endPause(replyId);

    expect((await claims.claim(replyId))?.claim).toMatchObject({ attempt: 2 });
    expect(await rowOf(replyId)).toMatchObject({ failures: 1 });
  });

  it.each([
    ['is claimed', async () => (await claimed()).replyId],
    ['is due', async () => (await post(await openSession())).reply.id],
    ['waits for the one before it', async () => (await post((await claimed()).sessionId)).reply.id],
    [
      'has failed',
      async () => {
        const { replyId, claim } = await claimed();
        await claims.fail(claim, 'provider_rejected');
        return replyId;
      },
    ],
  ])('is none for a reply that %s, of which nothing changes', async (_, arrange) => {
    const replyId = await arrange();
    const before = await rowOf(replyId);

    await dispatching.endPause(replyId);

    expect(await rowOf(replyId)).toEqual(before);
  });
});

describe('a round of the reconciler', () => {
  it('finds nothing to do where all goes well', async () => {
    await post(await openSession());
    await claimed();
    const { sessionId, claim } = await claimed();
    await post(sessionId);
    await claims.complete(claim, ANSWER);

    expect(await reconciliation.reconcile()).toEqual({
      lost: [],
      dispatches: [],
      finished: [],
      cancels: [],
    });
  });

  it('charges a lease that ran out, and enqueues again', async () => {
    const { replyId, claim } = await claimed();
    await expireLease(replyId);

    const found = await reconciliation.reconcile();

    expect(found?.dispatches).toMatchObject([{ replyId, number: 2, delayMs: 0 }]);
    expect(await rowOf(replyId)).toMatchObject({
      status: 'in_progress',
      failures: 1,
      attempt: 1,
      lease_token: null,
    });
    expect(await claims.heartbeat(claim)).toBe(false);
    expect((await claims.claim(replyId))?.claim.attempt).toBe(2);
  });

  it('fails a reply as internal whose workers were lost too often', async () => {
    const { sessionId, replyId } = await claimed();
    const next = await post(sessionId);
    await change(replyId, `failures = ${REPLY_ATTEMPTS - 1}`);
    await expireLease(replyId);

    const found = await reconciliation.reconcile();

    expect(found?.finished).toMatchObject([
      {
        reply: { id: replyId, status: 'failed', error_code: 'internal' },
        message: null,
        next: { replyId: next.reply.id },
      },
    ]);
    expect(found?.dispatches).toEqual([]);
  });

  it('enqueues a due reply whose job the queue did not take', async () => {
    const { reply, dispatch } = await post(await openSession());
    await dispatching.markUndispatched(dispatch!);

    expect((await reconciliation.reconcile())?.dispatches).toMatchObject([{ replyId: reply.id, number: 2 }]);
    expect((await reconciliation.reconcile())?.dispatches).toEqual([]); // it was enqueued just now
  });

  it('enqueues again where no worker claimed, after pauses that grow to a minute', async () => {
    const { reply } = await post(await openSession());
    const pausesSeconds = [];
    for (let round = 0; round < 5; round++) {
      for (let seconds = 1; ; seconds++) {
        await change(reply.id, `dispatched_at = clock_timestamp() - interval '${seconds} seconds'`);
        if ((await reconciliation.reconcile())!.dispatches.length === 0) continue;
        pausesSeconds.push(seconds);
        break;
      }
    }

    expect(pausesSeconds).toEqual([8, 16, 32, 60, 60]);
    expect(await rowOf(reply.id)).toMatchObject({ dispatch_count: 6, attempt: 0, failures: 0 });
  });

  it('does not enqueue a reply that waits for its pause or for the one before it', async () => {
    const { sessionId, claim } = await claimed();
    await post(sessionId);
    await claims.retryLater(claim, 'provider_timeout', 10_000);

    expect((await reconciliation.reconcile())?.dispatches).toEqual([]);
  });

  it.each([
    ['queued', async () => (await post(await openSession())).reply.id],
    ['in progress', async () => (await claimed()).replyId],
    [
      'between two attempts',
      async () => {
        const { replyId, claim } = await claimed();
        await claims.retryLater(claim, 'provider_timeout', 10_000);
        return replyId;
      },
    ],
  ])('fails a reply that is past its deadline, %s, as expired', async (_, arrange) => {
    const replyId = await arrange();
    await change(replyId, `deadline_at = clock_timestamp() - interval '1 second'`);

    expect((await reconciliation.reconcile())?.finished).toMatchObject([
      { reply: { id: replyId, status: 'failed', error_code: 'expired' }, message: null },
    ]);
  });

  it('reports a cancel that was accepted and not carried out', async () => {
    const { sessionId, replyId } = await claimed();
    await cancelling.requestCancel(replyId, 'guest');
    await change(replyId, `cancel_requested_at = clock_timestamp() - interval '1 minute'`);

    expect((await reconciliation.reconcile())?.cancels).toEqual([
      { sessionId, replyId, requestId: 'request-1', attempt: 1, worker: PROCESS_NAME },
    ]);
  });

  it('takes more than it can at once in several rounds', async () => {
    const sessions = await Promise.all(Array.from({ length: 120 }, () => openSession()));
    const posted = await Promise.all(sessions.map((sessionId) => post(sessionId)));
    await testDatabase.query('update replies set dispatched_at = null');

    const rounds = [
      await reconciliation.reconcile(),
      await reconciliation.reconcile(),
      await reconciliation.reconcile(),
    ];

    expect(rounds.map((round) => round?.dispatches.length)).toEqual([100, 20, 0]);
    const enqueued = rounds.flatMap((round) => round!.dispatches.map(({ replyId }) => replyId));
    expect(enqueued.toSorted()).toEqual(posted.map(({ reply }) => reply.id).toSorted());
  });

  it('is done by one of those who come at once', async () => {
    const { reply } = await post(await openSession());
    await change(reply.id, 'dispatched_at = null');

    const rounds = await Promise.all(Array.from({ length: 4 }, () => reconciliation.reconcile()));

    expect(rounds.flatMap((found) => found?.dispatches ?? [])).toHaveLength(1);
    expect(await rowOf(reply.id)).toMatchObject({ dispatch_count: 2 });
  });

  it('is left to the one who is at it', async () => {
    const { reply } = await post(await openSession());
    await change(reply.id, 'dispatched_at = null');

    const found = await database.transaction(async (em) => {
      await runOn(em, sql`select pg_advisory_xact_lock(${RECONCILE_LOCK_KEY})`);
      return reconciliation.reconcile();
    });

    expect(found).toBeNull();
    expect(await rowOf(reply.id)).toMatchObject({ dispatch_count: 1 });
  });
});

describe('an end that nobody has told', () => {
  it('is found after a while, with its message, until it is told', async () => {
    const { replyId, claim } = await claimed();
    const finished = await claims.complete(claim, ANSWER);

    expect(await publication.findUnpublished()).toEqual([]); // whoever ended it is about to tell
    await change(replyId, `finished_at = clock_timestamp() - interval '10 seconds'`);
    const found = await publication.findUnpublished();
    await publication.markPublished([replyId]);

    expect(found).toHaveLength(1);
    expect(found[0]?.reply).toMatchObject({ id: replyId, status: 'completed' } satisfies Partial<ReplyRow>);
    expect(found[0]?.message?.id).toBe(finished?.message?.id);
    expect(await publication.findUnpublished()).toEqual([]);
  });
});

describe('the database refuses', () => {
  async function insertReply(sessionId: string, columns: Record<string, unknown>): Promise<unknown> {
    const all: Record<string, unknown> = { id: newId(), chat_session_id: sessionId, ...columns };
    const names = Object.keys(all);
    return testDatabase.query(
      `insert into replies (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')})`,
      Object.values(all),
    );
  }

  it.each([
    ['a second queued reply in a session', { status: 'queued' }, 'replies_one_queued_per_session'],
    [
      'a second reply in progress in a session',
      { status: 'in_progress' },
      'replies_one_in_progress_per_session',
    ],
    [
      'a lease on a reply that is not in progress',
      { status: 'cancelled', finished_at: new Date(), lease_token: randomUUID(), lease_until: new Date() },
      'replies_lease_only_in_progress',
    ],
    ['a final reply without an end', { status: 'completed' }, 'replies_end_exactly_when_final'],
    [
      'a failed reply without a code',
      { status: 'failed', finished_at: new Date() },
      'replies_error_exactly_when_failed',
    ],
    ['a status that nobody knows', { status: 'lost', finished_at: null }, 'replies_status_check'],
  ])('%s', async (_, columns, constraint) => {
    const { sessionId } = await claimed();
    await post(sessionId);

    await expect(insertReply(sessionId, columns)).rejects.toMatchObject({ constraint });
  });

  it('half a lease', async () => {
    const { replyId } = await claimed();

    await expect(change(replyId, 'lease_until = null')).rejects.toMatchObject({
      constraint: 'replies_lease_is_whole',
    });
  });

  it.each([
    ['a second AI message of a reply', 'ai', 7, 'messages_one_ai_message_per_reply'],
    ['a sequence number that is taken', 'user', 1, 'messages_sequence_unique'],
    ['a sender that is neither user nor ai', 'system', 8, 'messages_sender_check'],
  ])('%s', async (_, sender, sequence, constraint) => {
    const { sessionId, replyId, claim } = await claimed();
    await claims.complete(claim, ANSWER);

    await expect(
      testDatabase.query(
        `insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
         values ($1, $2, $3, $4, 'x', $5)`,
        [newId(), sessionId, sequence, sender, replyId],
      ),
    ).rejects.toMatchObject({ constraint });
  });
});
