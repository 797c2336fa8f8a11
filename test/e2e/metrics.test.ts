import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Json } from '../support/api-client.js';
import { ask, converse } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { type Scrape, scrape } from '../support/scrape.js';
import { Stack, type StackOptions } from '../support/stack.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

jest.setTimeout(120_000);

/** Nothing here is about how long something takes: what waits by the clock waits briefly. */
const TIMINGS = { scrapeFreshMs: 200, attemptBackoffMs: 50, reconcileIntervalMs: 200 };

/** Gives a worker its port. */
async function listen(app: NestExpressApplication): Promise<string> {
  await app.listen(0, '127.0.0.1');
  return (await app.getUrl()).replace('[::1]', '127.0.0.1');
}

let provider: RawProvider;
let stack: Stack;
/** Every process that can be scraped, the apis first. */
let urls: string[];

async function start(options: StackOptions = {}): Promise<void> {
  provider = await startRawProvider();
  stack = await Stack.start({
    timings: TIMINGS,
    ...options,
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok', ...options.env },
  });
  urls = stack.apis.map(({ url }) => url);
  for (const worker of stack.workers) urls.push(await listen(worker));
}
async function stop(): Promise<void> {
  await stack.stop();
  await provider.close();
}

/** A series over all processes, as Prometheus sums it. */
async function sum(name: string, labels?: Record<string, string>): Promise<number> {
  const scrapes = await Promise.all(urls.map((url) => scrape(url)));
  return scrapes.reduce((total, each) => total + (each.value(name, labels) ?? 0), 0);
}

/** A question to a chatbot of its own, to its end. */
const askOnce = async (model: string): Promise<Json> => ask(await converse(stack, model));

/** Scrapes until it shows what is awaited: what is read from the stores may be a little older. */
const eventually = (url: string, what: string, look: (got: Scrape) => boolean): Promise<Scrape> =>
  waitFor(
    what,
    async () => {
      const got = await scrape(url);
      return look(got) ? got : null;
    },
    { intervalMs: 200 },
  );

describe('the metrics of replies', () => {
  beforeAll(() => start({ apis: 2, workers: 2 }));
  afterAll(stop);

  it('count each end once, in whichever process it was committed, with its times, calls and tokens', async () => {
    const answered = [await askOnce('ok'), await askOnce('length'), await askOnce('no-usage')];
    const retried = await askOnce('fail:503:1');
    const failed = await askOnce('status:401');
    const { session, guest, cursor } = await converse(stack, 'pace:100');
    const stream = await guest.follow(session.id, { after: cursor }).opened();
    const { reply } = await guest.postMessage(session.id, `Stop this ${session.id}`);
    await waitFor('some text', () => stream.textOf(reply.id).length > 10);
    const { body: cancelled } = await guest.post(`/v1/replies/${reply.id}/cancel`);
    await guest.post(`/v1/replies/${reply.id}/cancel`); // a second time changes nothing
    await stream.close();
    expect([failed.status, cancelled.status, retried.attempt]).toEqual(['failed', 'cancelled', 2]);
    await waitFor(
      'the cancelled attempt to end',
      async () => (await sum('assistly_reply_attempts_total')) === 7,
    );

    const finished = (labels: object): Promise<number> =>
      sum('assistly_replies_finished_total', labels as Record<string, string>);
    expect(await finished({ status: 'completed', error_code: '' })).toBe(4);
    expect(await finished({ status: 'cancelled', error_code: '' })).toBe(1);
    expect(await finished({ status: 'failed', error_code: 'provider_rejected' })).toBe(1);
    expect(await finished({})).toBe(6);
    // The cancel was committed by an api, the rest by workers.
    expect((await scrape(urls[0]!)).value('assistly_replies_finished_total')).toBe(1);
    expect((await scrape(urls[1]!)).value('assistly_replies_finished_total')).toBe(0);

    for (const [status, count] of [
      ['completed', 4],
      ['failed', 1],
      ['cancelled', 1],
    ] as const)
      expect(await sum('assistly_reply_duration_seconds_count', { status })).toBe(count);
    const took = (each: Json): number => Date.parse(each.finishedAt) - Date.parse(each.createdAt);
    const total = [...answered, retried, failed, cancelled].reduce((ms, each) => ms + took(each), 0) / 1000;
    expect(await sum('assistly_reply_duration_seconds_sum')).toBeCloseTo(total, 2);
    expect(await sum('assistly_reply_first_token_seconds_count')).toBe(5); // all but the failed one
    const waited = [...answered, retried, cancelled].reduce(
      (ms, each) => ms + Date.parse(each.firstTokenAt) - Date.parse(each.createdAt),
      0,
    );
    expect(await sum('assistly_reply_first_token_seconds_sum')).toBeCloseTo(waited / 1000, 2);

    const attempts = (outcome: string): Promise<number> => sum('assistly_reply_attempts_total', { outcome });
    expect(await attempts('completed')).toBe(4);
    expect(await attempts('retrying')).toBe(1);
    expect(await attempts('failed')).toBe(1);
    expect(await attempts('lost')).toBe(1); // cancelled by somebody else than its worker

    const calls = (outcome: string): Promise<number> =>
      sum('assistly_provider_calls_total', { model: 'first', outcome });
    expect(await calls('answered')).toBe(4);
    expect(await calls('provider_unavailable')).toBe(1);
    expect(await calls('provider_rejected')).toBe(1);
    expect(await calls('aborted')).toBe(1);
    expect(await sum('assistly_provider_calls_total')).toBe(7);
    expect(await sum('assistly_provider_first_token_seconds_count', { model: 'first' })).toBe(5);

    for (const direction of ['input', 'output'] as const) {
      const used = [...answered, retried].reduce(
        (count, { usage }) => count + usage[`${direction}Tokens`],
        0,
      );
      expect(used).toBeGreaterThan(0);
      expect(await sum('assistly_tokens_total', { model: 'first', direction })).toBe(used);
    }
  });

  it('have as many series after many models, sessions and failures as before', async () => {
    for (const model of ['ok', 'status:401', 'status:503:9']) await askOnce(model).catch(() => undefined);
    const names = async (): Promise<string[]> =>
      (await Promise.all(urls.map((url) => scrape(url))))
        .flatMap(({ series }) => [...series.keys()])
        .filter((name) => name.startsWith('assistly_'));
    // A series appears with its first observation, in whichever of the processes that is.
    const distinct = async (): Promise<string[]> => [...new Set(await names())].sort();
    const before = await distinct();

    await Promise.all(Array.from({ length: 40 }, (_, i) => askOnce(`a-model-of-its-own-${i}`)));

    expect(await distinct()).toEqual(before);
    for (const name of before) expect(name).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}|a-model|127\.0\.0\.1/);
    expect(before.length).toBeLessThan(400);
  });

  it('tell of the process: its pool, its event loop, its memory', async () => {
    for (const url of urls) {
      const got = await scrape(url);
      expect(got.value('assistly_database_pool_max_connections')).toBe(10);
      const open = got.value('assistly_database_pool_connections')!;
      expect(open).toBeGreaterThan(0);
      expect(open).toBeLessThanOrEqual(10);
      expect(got.value('assistly_database_pool_waiting')).toBe(0);
      expect(got.value('nodejs_eventloop_lag_p99_seconds')).toBeGreaterThan(0);
      expect(got.value('process_resident_memory_bytes')).toBeGreaterThan(10_000_000);
    }
  });
});

describe('the metrics of requests', () => {
  beforeAll(() => start({ workers: 0 }));
  afterAll(stop);

  it('count them by the template of their route and the class of the status, and time them, streams apart', async () => {
    const name = 'assistly_http_requests_total';
    const { guest, session } = await converse(stack, 'ok');
    await guest.get(`/v1/sessions/${session.id}`);
    await guest.get(`/v1/sessions/01a203eb-82fd-76a1-a5fa-4018ce01bf49`);
    await stack.client().get('/v1/sessions/nonsense');
    for (const path of ['/no/such/path', '/%ff', `/${session.id}`]) await fetch(stack.apis[0]!.url + path);
    const stream = guest.follow(session.id);
    await stream.opened();
    await stream.close();

    const route = '/v1/sessions/:id';
    const streams = { method: 'GET', route: `${route}/events` };
    const got = await eventually(
      urls[0]!,
      'the end of the stream',
      (each) => each.value(name, { ...streams, status: '2xx' }) === 1,
    );
    expect(got.value(name, { method: 'GET', route, status: '2xx' })).toBe(1);
    expect(got.value(name, { method: 'GET', route, status: '4xx' })).toBe(2);
    expect(got.value(name, { method: 'GET', route: 'none', status: '4xx' })).toBe(3);
    const timed = 'assistly_http_request_duration_seconds_count';
    expect(got.value(timed, { method: 'GET', route })).toBe(3);
    expect(got.value(timed, streams)).toBeUndefined();
    expect(got.text).not.toContain(session.id);
    expect(got.text).toMatch(/^assistly_build_info\{role="api",version="[\d.]+",commit="\w+"\} 1$/m);
  });
});

describe('the metrics of event streams', () => {
  beforeAll(() => start());
  afterAll(stop);

  it('count those that are open, and time what is pushed to them', async () => {
    const { session, guest, cursor } = await converse(stack, 'pace:50');
    const streams = [1, 2, 3].map(() => guest.follow(session.id, { after: cursor }));
    await Promise.all(streams.map((stream) => stream.opened()));
    await waitFor('the streams to be counted', async () => (await sum('assistly_event_streams_open')) === 3);
    const beganAt = performance.now();

    const { reply } = await guest.postMessage(session.id, 'Tell me something long, please.');
    for (const stream of streams) await stream.next('reply.completed', reply.id);

    const tookSeconds = (performance.now() - beganAt) / 1000;
    const count = await sum('assistly_event_lag_seconds_count');
    const told = streams.reduce((events, stream) => events + stream.events.length, 0);
    // Those that were read from the log, at the beginning, and before the clocks were compared, are not timed.
    expect(count).toBeGreaterThan(told / 2);
    expect(count).toBeLessThanOrEqual(told);
    const mean = (await sum('assistly_event_lag_seconds_sum')) / count;
    expect(mean).toBeGreaterThanOrEqual(0); // the comparison of the clocks is exact to some milliseconds only
    expect(mean).toBeLessThan(tookSeconds);
    await Promise.all(streams.map((stream) => stream.close()));
    await waitFor('the streams to be gone', async () => (await sum('assistly_event_streams_open')) === 0);
  });
});

describe('the metrics of what waits', () => {
  beforeEach(() => start({ workers: 0, env: { REPLY_CONCURRENCY: '1' } }));
  afterEach(stop);

  it('are the same in every process: what is due, held or behind, since when, and who works', async () => {
    const { session, guest } = await converse(stack, 'no-headers');
    await guest.postMessage(session.id, 'First?');
    const alone = await eventually(
      urls[0]!,
      'a due reply that nobody takes',
      (got) => (got.value('assistly_reply_oldest_due_age_seconds') ?? 0) > 0.5,
    );
    expect(alone.value('assistly_replies_unfinished', { state: 'due' })).toBe(1);
    expect(alone.value('assistly_replies_unfinished')).toBe(1);
    expect(alone.value('assistly_workers')).toBe(0);
    expect(alone.value('assistly_queue_jobs')).toBeGreaterThanOrEqual(1);

    urls.push(await listen(await stack.addWorker()));
    await waitFor('the reply to be taken', () => provider.calls.length > 0);
    await guest.postMessage(session.id, 'Second?');
    const other = await converse(stack, 'no-headers');
    await other.guest.postMessage(other.session.id, 'Third?');

    for (const url of urls) {
      const got = await eventually(
        url,
        'all that waits',
        (now) => now.value('assistly_replies_unfinished') === 3 && (now.value('assistly_workers') ?? 0) > 0,
      );
      const states = ['held', 'behind', 'due', 'delayed'];
      expect(states.map((state) => got.value('assistly_replies_unfinished', { state }))).toEqual([
        1, 1, 1, 0,
      ]);
      expect(got.value('assistly_workers')).toBe(1);
      expect(got.value('assistly_queue_jobs', { state: 'active' })).toBe(1);
      expect(got.value('assistly_source_up', { source: 'rows' })).toBe(1);
      expect(got.value('assistly_source_up', { source: 'queue' })).toBe(1);
    }
  });

  it('tell when the last worker has gone', async () => {
    const worker = await stack.addWorker();
    await eventually(urls[0]!, 'the worker', (got) => got.value('assistly_workers') === 1);

    await worker.close();
    stack.workers.splice(0);

    await eventually(urls[0]!, 'no worker', (got) => got.value('assistly_workers') === 0);
  });
});

it('count a reply that the reconciler gave up once, however many processes reconcile', async () => {
  await start({ apis: 3, workers: 0, env: { REPLY_MAX_AGE_MS: '1000' } });
  const { session, guest } = await converse(stack);
  const { reply } = await guest.postMessage(session.id, 'Anybody?');
  expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'failed', error: { code: 'expired' } });

  const expired = () => sum('assistly_replies_finished_total', { status: 'failed', error_code: 'expired' });
  await waitFor('the end to be counted', async () => (await expired()) > 0);
  // Ten more, one after the other: by then every process has reconciled again, and found the first ones done.
  for (let count = 2; count <= 11; count++) {
    const next = await guest.postMessage(session.id, 'Still nobody?');
    await stack.database.query('update replies set deadline_at = now() where id = $1', [next.reply.id]);
    await waitFor('the next end to be counted', async () => (await expired()) >= count);
  }

  expect(await expired()).toBe(11);
  expect(await sum('assistly_replies_finished_total')).toBe(11);
  await stop();
});

describe('a store that does not answer', () => {
  /** Twenty of them in a row take longer than {@link PROMETHEUS_TIMEOUT_MS}. */
  const SCRAPE_TIMEOUT_MS = 600;
  /** After so long Prometheus gives a scrape up. */
  const PROMETHEUS_TIMEOUT_MS = 10_000;
  let proxies: { postgres: TcpProxy; redis: TcpProxy | null };
  beforeAll(async () => {
    await start({ apis: 0, workers: 0, timings: { ...TIMINGS, scrapeTimeoutMs: SCRAPE_TIMEOUT_MS } });
    const redisUrl = process.env['ASSISTLY_TEST_REDIS_URL'];
    proxies = {
      postgres: await startTcpProxy(stack.database.url),
      redis: stack.redisPrefix !== undefined && redisUrl ? await startTcpProxy(redisUrl, 6379) : null,
    };
    const { url } = await stack.addApi({
      DATABASE_URL: proxies.postgres.url,
      ...(proxies.redis && { REDIS_URL: proxies.redis.url }),
    });
    urls = [url];
  });
  afterAll(async () => {
    await stop();
    await proxies.postgres.close();
    await proxies.redis?.close();
  });

  it('leaves its own metrics out of a scrape, which is answered all the same, until it is back', async () => {
    const url = urls[0]!;
    const isUp = (got: Scrape, source: string): boolean => got.value('assistly_source_up', { source }) === 1;
    await eventually(url, 'both stores', (got) => isUp(got, 'rows') && isUp(got, 'queue'));

    proxies.postgres.swallow('both');

    const rowsAreGone = await eventually(url, 'the rows to be missed', (got) => !isUp(got, 'rows'));
    expect(rowsAreGone.text).not.toMatch(/^assistly_(replies_unfinished|reply_oldest_due_age_seconds)[ {]/m);
    expect(rowsAreGone.value('assistly_event_streams_open')).toBe(0);
    const beganAt = performance.now();
    const many = await Promise.all(Array.from({ length: 20 }, () => scrape(url)));
    expect(performance.now() - beganAt).toBeLessThan(PROMETHEUS_TIMEOUT_MS);
    for (const { status } of many) expect(status).toBe(200);
    if (proxies.redis) {
      expect(isUp(rowsAreGone, 'queue')).toBe(true);
      proxies.redis.swallow('both');
    }
    const allIsGone = await eventually(url, 'the queue to be missed', (got) => !isUp(got, 'queue'));
    expect(allIsGone.text).not.toMatch(/^assistly_(queue_jobs|workers)[ {]/m);

    proxies.postgres.recover();
    proxies.redis?.recover();
    const back = await eventually(url, 'both to be back', (got) => isUp(got, 'rows') && isUp(got, 'queue'));
    expect(back.value('assistly_reply_oldest_due_age_seconds')).toBe(0);
    expect(back.value('assistly_replies_unfinished')).toBe(0);
  });
});

describe('reading /metrics', () => {
  const TOKEN = 'a-token-for-prometheus';
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const PRODUCTION = {
    NODE_ENV: 'production',
    CLERK_JWT_KEY: publicKey.export({ type: 'spki', format: 'pem' }) as string,
  };
  beforeAll(() => start({ apis: 0, workers: 0 }));
  afterAll(stop);

  /** An api and a worker with these settings. */
  async function roles(env: Record<string, string>): Promise<string[]> {
    return [(await stack.addApi(env)).url, await listen(await stack.addWorker(env))];
  }

  it('is for everybody while developing, in Prometheus’ format', async () => {
    for (const url of await roles({})) {
      const { status, headers, text } = await scrape(url);

      expect(status).toBe(200);
      expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
      expect(text).toMatch(/^# HELP assistly_replies_finished_total \S/m);
      expect(text).toMatch(/^# TYPE assistly_replies_finished_total counter$/m);
    }
  });

  it('is for nobody in production without a token: there is nothing', async () => {
    for (const url of await roles(PRODUCTION)) {
      for (const authorization of [undefined, 'Bearer ', 'Bearer undefined', `Bearer ${TOKEN}`]) {
        const { status, text } = await scrape(url, authorization);

        expect(status).toBe(404);
        expect(text).not.toContain('assistly_');
      }
    }
  });

  it.each([
    ['production', PRODUCTION],
    ['development', {}],
  ])('is in %s, with a token, for whoever sends it', async (_, env) => {
    for (const url of await roles({ ...env, METRICS_TOKEN: TOKEN })) {
      for (const wrong of [
        undefined,
        'Bearer',
        'Bearer wrong',
        `Bearer ${TOKEN}x`,
        `Bearer ${TOKEN.slice(1)}`,
        `Basic ${Buffer.from(`:${TOKEN}`).toString('base64')}`,
        `Bearer ${stack.ownerToken()}`,
      ]) {
        const { status, headers, text } = await scrape(url, wrong);

        expect([wrong, status]).toEqual([wrong, 401]);
        expect(headers.get('www-authenticate')).toMatch(/^Bearer realm=/);
        expect(text).not.toContain('assistly_');
      }
      expect((await scrape(url, `Bearer ${TOKEN}`)).status).toBe(200);
      expect((await scrape(url, `bearer  ${TOKEN}`)).status).toBe(200); // the scheme’s case does not matter
    }
  });
});
