import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { ApiClient, type Json } from '../support/api-client.js';
import { type OtlpCollector, startOtlpCollector } from '../support/otlp-collector.js';
import {
  createInstallation,
  type Installation,
  launch,
  type Program,
  type RunningRole,
  untilReady,
} from '../support/program.js';
import { bullmqTables, redisKeysButEvents } from '../support/queue-texts.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { startTemporaryPostgres } from '../support/services.mjs';
import { waitFor } from '../support/wait.js';
import { migrate } from '../../dist/src/migrate.js';

/**
 * Canaries: what people and the model say, and what is secret, must stand in no log (PostgreSQL's own included), no
 * error's body, no job and no trace; not even when statements fail and providers quote what they were sent.
 *
 * case 71 of the fault plan
 */

jest.setTimeout(180_000);

const BACKENDS = globalThis.HAS_REDIS ? (['postgres', 'redis'] as const) : (['postgres'] as const);

/** PostgreSQL as it is installed, where the embedded one says less; and a log that can be read by SQL. */
const SERVER_SETTINGS = {
  log_min_messages: 'warning',
  log_min_error_statement: 'error',
  logging_collector: 'on',
  max_connections: '100',
};

let server: Awaited<ReturnType<typeof startTemporaryPostgres>>;
let provider: RawProvider;
let cwd: string;

beforeAll(async () => {
  server = await startTemporaryPostgres(SERVER_SETTINGS);
  provider = await startRawProvider();
  cwd = mkdtempSync(join(tmpdir(), 'assistly-canary-'));
});
afterAll(async () => {
  await provider.close();
  await server.stop();
  rmSync(cwd, { recursive: true, force: true });
});

async function createDatabase(name: string): Promise<pg.Pool & { url: string }> {
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  await admin.query(`create database ${name}`);
  await admin.end();
  const url = new URL(server.url);
  url.pathname = `/${name}`;
  await migrate(url.href);
  const pool = new pg.Pool({ connectionString: url.href, max: 2 });
  pool.on('connect', (client) => client.on('error', () => undefined)); // when the server stops
  pool.on('error', () => undefined);
  return Object.assign(pool, { url: url.href });
}

const serverLog = async (pool: pg.Pool): Promise<string> =>
  (await pool.query<{ log: string }>('select pg_read_file(pg_current_logfile()) as log')).rows[0]!.log;

/** Where a text holds a canary: the lines, cut, so that a failing test can be read. */
const canariesIn = (text: string, ...secrets: string[]): string[] =>
  text
    .split('\n')
    .filter((line) => /canary/i.test(line) || secrets.some((secret) => line.includes(secret)))
    .map((line) => line.slice(0, 500));

/** The bodies of every refusal, which are looked through as well. */
class Refusals {
  readonly bodies: string[] = [];

  async expect(status: number, answer: Promise<{ status: number; body: Json }>): Promise<void> {
    const { status: got, body } = await answer;
    this.bodies.push(JSON.stringify(body));
    expect([got, body.code]).toEqual([status, body.code]);
  }
}

async function start(installation: Installation, programs: Program[], env: Record<string, string>) {
  const [api, worker] = await Promise.all(
    (['api', 'worker'] as const).map((role) =>
      launch(installation, role, env, (program) => programs.push(program)),
    ),
  );
  await Promise.all([untilReady(api!), untilReady(worker!)]);
  return { api: api!, worker: worker! };
}

const stop = async (programs: Program[]): Promise<void> => {
  for (const program of programs) program.signal('SIGKILL');
  await Promise.all(programs.map(({ exited }) => exited));
};

async function openSession(api: RunningRole, ownerToken: string, model: string) {
  const chatbot = await new ApiClient(api.url, ownerToken).createChatbot({
    name: 'canary-chatbot',
    model,
    greeting: 'canary-greeting for {name}',
    characteristics: ['canary-characteristic'],
  });
  const { session, guest, token } = await new ApiClient(api.url).openSession(chatbot.id, {
    guest: { name: 'canary-guest', email: 'canary@example.com' },
  });
  return { sessionId: session.id as string, guest, token, chatbotId: chatbot.id as string };
}

describe.each(BACKENDS)('what people say and what is secret, on %s', (backend) => {
  let pool: Awaited<ReturnType<typeof createDatabase>>;
  let collector: OtlpCollector;
  let installation: Installation;
  const programs: Program[] = [];

  beforeAll(async () => {
    pool = await createDatabase(`quiet_${backend}`);
    collector = await startOtlpCollector();
    installation = createInstallation(mkdtempSync(join(cwd, 'installation-')), {
      databaseUrl: pool.url,
      backend,
      modelUrl: provider.baseUrl,
    });
  });
  afterAll(async () => {
    await stop(programs);
    await collector.close();
    await pool.end();
  });

  /** Makes every write of a table fail, with or after the row. */
  async function whileRefused(table: string, how: string, work: () => Promise<void>): Promise<void> {
    await pool.query(`
      create function refuse() returns trigger language plpgsql as $$ begin ${how}; return new; end $$;
      create trigger refuse before insert or update on ${table} for each row execute function refuse()`);
    await work();
    await pool.query(`drop trigger refuse on ${table}; drop function refuse`);
  }

  it('stand in no log, no refusal, no job and no trace, whatever fails', async () => {
    const { api, worker } = await start(installation, programs, {
      LOG_LEVEL: 'trace',
      REPLY_ATTEMPTS: '2',
      LLM_IDLE_TIMEOUT_MS: '1000',
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-key=canary-collector-key',
    });
    const { ownerToken } = installation;
    const owner = new ApiClient(api.url, ownerToken);
    const refusals = new Refusals();
    const { sessionId, guest, token, chatbotId } = await openSession(api, ownerToken, 'ok');
    const messages = `/v1/sessions/${sessionId}/messages`;

    // All goes well.
    const idempotent = { 'idempotency-key': 'canary-idempotency-key' };
    const posted = await guest.post(messages, { content: 'canary-message' }, idempotent);
    await guest.finalReply(posted.body.reply.id);
    const { body: watcher } = await guest.post(`/v1/sessions/${sessionId}/events/token`);
    const stream = await guest.follow(sessionId, { eventToken: watcher.token }).opened();
    await stream.close();

    // Requests that are refused.
    await refusals.expect(422, guest.post(messages, { content: 'canary-other' }, idempotent));
    await refusals.expect(400, guest.post(messages, { content: 'canary-\0' }));
    await refusals.expect(400, guest.post(messages, { content: 'canary-message '.repeat(1_000) }));
    await refusals.expect(400, guest.post(messages, { contents: 'canary-message' }));
    await refusals.expect(400, guest.get(`${messages}?cursor=bogus`));
    await refusals.expect(
      400,
      guest.request('POST', messages, {
        body: '{"content":"canary-message',
        headers: { 'content-type': 'application/json' },
      }),
    );
    await refusals.expect(401, guest.as('canary-token').get(messages));
    await refusals.expect(401, guest.as(`${ownerToken}canary`).get(messages));
    await refusals.expect(400, guest.get(`/v1/sessions/${sessionId}x?token=${token}`));
    for (const password of ['canary-board-password', 'canary-wrong-password']) {
      const authorization = `Basic ${Buffer.from(`operator:${password}`).toString('base64')}`;
      await fetch(`${api.url}/admin/queues/`, { headers: { authorization } }).then((answer) => answer.text());
    }

    // Statements that fail.
    const characteristics = `/v1/chatbots/${chatbotId}/characteristics`;
    const content = { content: 'canary-refused' };
    const [{ id: characteristicId }] = (await owner.get(characteristics)).body.data;
    const raise = "raise exception 'refused'";
    await whileRefused('messages', raise, () => refusals.expect(500, guest.post(messages, content)));
    await whileRefused('chatbots', raise, async () => {
      await refusals.expect(500, owner.post('/v1/chatbots', { name: 'canary-refused' }));
      await refusals.expect(500, owner.patch(`/v1/chatbots/${chatbotId}`, { greeting: 'canary-refused' }));
    });
    await whileRefused('chatbot_characteristics', raise, async () => {
      const chatbot = { name: 'Bakery', characteristics: ['canary-refused', `canary-"'\\`] };
      await refusals.expect(500, owner.post('/v1/chatbots', chatbot));
      await refusals.expect(500, owner.post(characteristics, content));
      await refusals.expect(500, owner.patch(`${characteristics}/${characteristicId}`, content));
    });
    await whileRefused('guests', raise, () =>
      refusals.expect(
        500,
        new ApiClient(api.url).post(`/v1/chatbots/${chatbotId}/sessions`, {
          guest: { name: 'canary-guest' },
        }),
      ),
    );
    // A constraint that names the key of a row, and a statement that takes too long.
    await whileRefused('messages', 'new.id := (select id from messages limit 1)', () =>
      refusals.expect(500, guest.post(messages, content)),
    );
    await whileRefused('messages', 'perform pg_sleep(15)', () =>
      refusals.expect(503, guest.post(messages, content)),
    );
    // An answer that cannot be stored.
    const { reply: unstored } = await guest.postMessage(sessionId, 'canary-unstored');
    await guest.finalReply(unstored.id);

    // Providers that quote what they were sent, or what they said.
    for (const model of [
      'echo-error:400',
      'echo-error:500:1',
      'bad-json',
      'err-echo',
      'quota',
      'stall-mid',
    ]) {
      const failing = await openSession(api, ownerToken, model);
      const { reply } = await failing.guest.postMessage(
        failing.sessionId,
        `canary-message to ${model} on ${backend}`,
      );
      await failing.guest.finalReply(reply.id);
    }

    expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
    const secrets = [ownerToken, token, watcher.token, decodeURIComponent(new URL(pool.url).password)];
    const queue = await bullmqTables({ query: async (text) => (await pool.query(text)).rows });
    if (backend === 'redis') {
      queue.push(...(await redisKeysButEvents(installation.env['REDIS_PREFIX']!)));
    }
    const places = {
      api: api.program.stdout + api.program.stderr,
      worker: worker.program.stdout + worker.program.stderr,
      refusals: refusals.bodies.join('\n'),
      queue: queue.join('\n'),
      traces: collector.bodies.join('\n'),
      postgres: await serverLog(pool),
    };
    // It was looked at the right places.
    expect(places.api).toContain('the database refused the statement');
    expect(places.worker).toContain('quote the conversation');
    expect(places.worker).toContain('insufficient_quota');
    expect(places.queue).toContain(unstored.id);
    expect(places.traces).toContain(unstored.id);
    for (const sign of ['ERROR:  refused', 'STATEMENT:', 'insert into messages', 'statement timeout']) {
      expect(places.postgres).toContain(sign);
    }
    for (const text of Object.values(places)) {
      expect(canariesIn(text, ...secrets)).toEqual([]);
      expect(text).not.toContain('The end.'); // of every answer
    }
    expect(places.api).toContain('token=[redacted]');

    // One line a request and one an attempt, failed ones included.
    const requests = api.program.log.filter(({ req }) => req !== undefined);
    const ids = requests.map(({ requestId }) => requestId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(requests.find(({ replyId }) => replyId === unstored.id)).toMatchObject({
      event: 'request.completed',
      msg: 'request completed',
      sessionId,
      req: { method: 'POST', url: messages },
      res: { status: 202 },
      responseTime: expect.any(Number),
    });
    expect(requests.find(({ res }) => (res as Json).status === 500)).toMatchObject({
      event: 'request.failed',
      msg: 'request errored',
      err: { code: 'P0001' },
    });
    // Why a token was refused, and nothing of the token.
    expect(
      requests.filter(({ res }) => (res as Json).status === 401).map((line) => line['refusedToken']),
    ).toEqual(expect.arrayContaining([{ reason: 'malformed' }, { reason: 'signature' }]));
    const attempts = worker.program.log.filter(({ event }) => event === 'reply.attempt_ended');
    const attemptIds = attempts.map(({ replyId, attempt }) => `${String(replyId)} ${String(attempt)}`);
    expect(new Set(attemptIds).size).toBe(attemptIds.length);
    expect(attempts.find(({ replyId }) => replyId === posted.body.reply.id)).toMatchObject({
      event: 'reply.attempt_ended',
      sessionId,
      requestId: posted.headers.get('x-request-id'),
      attempt: 1,
      model: 'ok',
      outcome: 'completed',
      finishReason: 'stop',
      inputTokens: 7,
      outputTokens: 11,
      durationMs: expect.any(Number),
      firstTextMs: expect.any(Number),
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(attempts.find(({ model }) => model === 'echo-error:400')).toMatchObject({
      outcome: 'failed',
      code: 'provider_rejected',
      err: { answer: { status: 400, type: 'error' } },
    });
  });
});

// What it sets is the role's in every database, and taken back.
it('reaches PostgreSQL’s log when it is told to log statements, unless it is told to leave out their values', async () => {
  const pool = await createDatabase('talkative');
  const programs: Program[] = [];
  const installation = createInstallation(mkdtempSync(join(cwd, 'installation-')), {
    databaseUrl: pool.url,
    backend: 'postgres',
    modelUrl: provider.baseUrl,
  });
  const role = decodeURIComponent(new URL(pool.url).username);
  const phases: Record<string, string[]> = {};
  const set = (setting: string) => pool.query(`alter role ${role} ${setting}`);
  await set("set log_statement = 'all'");
  await set('set log_min_duration_statement = 0');
  await pool.query("alter table messages add constraint chosen check (content <> 'canary-unfit')");
  for (const phase of ['with', 'without']) {
    const before = (await serverLog(pool)).length;
    if (phase === 'without') {
      await set('set log_parameter_max_length = 0');
      await set('set log_error_verbosity = terse');
    }
    const { api, worker } = await start(installation, programs, { LOG_LEVEL: 'error' });
    const { sessionId, guest } = await openSession(api, installation.ownerToken, 'ok');
    const { reply } = await guest.postMessage(sessionId, 'canary-message');
    await guest.finalReply(reply.id);
    expect((await guest.post(`/v1/sessions/${sessionId}/messages`, { content: 'canary-unfit' })).status).toBe(
      500,
    );
    expect(await Promise.all([api.program.stop(), worker.program.stop()])).toEqual([0, 0]);
    await waitFor('the log', async () => (await serverLog(pool)).slice(before).includes('violates check'));
    phases[phase] = canariesIn((await serverLog(pool)).slice(before));
  }

  await set('reset all');
  await stop(programs);
  await pool.end();
  expect(phases['with']).not.toEqual([]);
  expect(phases['with']!.some((line) => line.includes('Failing row contains'))).toBe(true);
  expect(phases['without']).toEqual([]);
});
