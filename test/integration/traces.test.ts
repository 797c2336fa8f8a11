import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ApiClient } from '../support/api-client.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { type CollectedSpan, type OtlpCollector, startOtlpCollector } from '../support/otlp-collector.js';
import {
  createInstallation,
  type Installation,
  launch,
  type Program,
  type RunningRole,
  untilReady,
} from '../support/program.js';
import { PROVIDER_MODEL, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { waitFor } from '../support/wait.js';

/** An api and a worker that send their traces to a collector, which sees how their spans are joined. */

jest.setTimeout(120_000);

const BACKENDS = globalThis.HAS_REDIS ? (['postgres', 'redis'] as const) : (['postgres'] as const);

describe.each(BACKENDS)('traces on %s', (backend) => {
  let cwd: string;
  let database: TestDatabase;
  let provider: RawProvider;
  let collector: OtlpCollector;
  let installation: Installation;
  let programs: Program[];

  beforeAll(async () => {
    provider = await startRawProvider();
  });
  afterAll(() => provider.close());

  beforeEach(async () => {
    programs = [];
    cwd = mkdtempSync(join(tmpdir(), 'assistly-traces-'));
    database = await createTestDatabase();
    collector = await startOtlpCollector();
    installation = createInstallation(cwd, {
      databaseUrl: database.url,
      backend,
      modelUrl: provider.baseUrl,
    });
  });
  afterEach(async () => {
    for (const program of programs) program.signal('SIGKILL');
    await Promise.all(programs.map(({ exited }) => exited));
    await collector.close();
    await database.drop();
    rmSync(cwd, { recursive: true, force: true });
  });

  async function launchBoth(env: Record<string, string>): Promise<{ api: RunningRole; worker: RunningRole }> {
    const start = (role: 'api' | 'worker') =>
      launch(installation, role, env, (program) => programs.push(program));
    const [api, worker] = await Promise.all([start('api'), start('worker')]);
    await Promise.all([untilReady(api), untilReady(worker)]);
    return { api, worker };
  }

  async function openSession(api: RunningRole, model: string) {
    const chatbot = await new ApiClient(api.url, installation.ownerToken).createChatbot({
      name: 'canary-chatbot',
      model,
      greeting: 'canary-greeting',
      characteristics: ['canary-characteristic'],
    });
    const { session, guest } = await new ApiClient(api.url).openSession(chatbot.id, {
      guest: { name: 'canary-guest', email: 'canary@example.com' },
    });
    return { sessionId: session.id as string, guest };
  }

  /** What was sent once both have stopped, and so sent all that they had. */
  async function stopped(...roles: RunningRole[]): Promise<readonly CollectedSpan[]> {
    expect(await Promise.all(roles.map(({ program }) => program.stop()))).toEqual(roles.map(() => 0));
    return collector.spans;
  }

  const named = (spans: readonly CollectedSpan[], name: string): CollectedSpan[] =>
    spans.filter((span) => span.name === name);

  /** The span of that name below another one. */
  function below(spans: readonly CollectedSpan[], parent: CollectedSpan, name: string): CollectedSpan {
    const found = named(spans, name).filter(
      ({ parentSpanId, traceId }) => parentSpanId === parent.spanId && traceId === parent.traceId,
    );
    expect(found).toHaveLength(1);
    return found[0]!;
  }

  it('lead from the caller’s span through request, job and attempt to the provider’s call', async () => {
    const { api, worker } = await launchBoth({
      OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.url}/`,
      OTEL_EXPORTER_OTLP_HEADERS: 'x-collector-key=canary%20collector',
    });
    const { sessionId, guest } = await openSession(api, 'ok');
    const traceId = randomBytes(16).toString('hex');
    const callerSpanId = randomBytes(8).toString('hex');

    const { body } = await guest.post(
      `/v1/sessions/${sessionId}/messages`,
      { content: 'canary-message' },
      {
        traceparent: `00-${traceId}-${callerSpanId}-01`,
        tracestate: 'vendor=canary-state',
        baggage: 'user=canary-baggage',
        'x-request-id': 'request-of-the-test',
        'idempotency-key': 'canary-idempotency-key',
      },
    );
    await guest.finalReply(body.reply.id);

    const spans = (await stopped(api, worker)).filter((span) => span.traceId === traceId);
    const ids = {
      'assistly.session.id': sessionId,
      'assistly.reply.id': body.reply.id,
      'assistly.request.id': 'request-of-the-test',
    };
    const request = below(
      spans,
      { spanId: callerSpanId, traceId } as CollectedSpan,
      'POST /v1/sessions/:id/messages',
    );
    expect(request).toMatchObject({
      service: 'assistly-api',
      kind: 2,
      status: 0,
      attributes: {
        ...ids,
        'http.request.method': 'POST',
        'http.route': '/v1/sessions/:id/messages',
        'http.response.status_code': 202,
        'url.path': `/v1/sessions/${sessionId}/messages`,
      },
    });
    const added = below(spans, request, 'add replies.generate');
    expect(added).toMatchObject({ service: 'assistly-api', kind: 4 });
    const processed = below(spans, added, 'process replies');
    expect(processed).toMatchObject({ service: 'assistly-worker', kind: 5 });
    const attempt = below(spans, processed, 'reply attempt');
    expect(attempt).toMatchObject({
      service: 'assistly-worker',
      status: 0,
      attributes: { ...ids, 'assistly.reply.attempt': 1, 'assistly.reply.outcome': 'completed' },
    });
    const call = below(spans, attempt, 'chat ok');
    expect(call).toMatchObject({
      kind: 3,
      status: 0,
      events: ['first_token'],
      attributes: {
        'gen_ai.operation.name': 'chat',
        'gen_ai.provider.name': 'openai',
        'gen_ai.request.model': 'ok',
        'gen_ai.response.model': PROVIDER_MODEL,
        'gen_ai.response.finish_reasons': ['stop'],
        'gen_ai.usage.input_tokens': 7,
        'gen_ai.usage.output_tokens': 11,
        'server.address': '127.0.0.1',
        'server.port': Number(new URL(provider.baseUrl).port),
      },
    });
    expect(spans).toHaveLength(5);

    // The log leads to the trace, and back.
    for (const [role, ...messages] of [
      [api, 'request completed'],
      [
        worker,
        'a worker has claimed a reply and is about to ask the model',
        'reply attempt ended: completed',
      ],
    ] as const) {
      expect(role.program.log.filter((line) => line['traceId'] === traceId)).toEqual(
        messages.map((msg) =>
          expect.objectContaining({
            msg,
            replyId: body.reply.id,
            sessionId,
            requestId: 'request-of-the-test',
          }),
        ),
      );
    }
    expect(collector.headers.every((headers) => headers['x-collector-key'] === 'canary collector')).toBe(
      true,
    );
    expect(collector.bodies.join()).not.toContain('canary');
    expect(collector.bodies.join()).not.toContain('The end.'); // of every answer
    expect(api.program.stdout + worker.program.stdout).not.toContain('canary');
  });

  it('hold every attempt of a reply, what failed and why, and nothing of the failure’s words', async () => {
    const { api, worker } = await launchBoth({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
    const { sessionId, guest } = await openSession(api, 'echo-error:500:1');

    const { reply } = await guest.postMessage(sessionId, `canary-message on ${backend}`);
    await guest.finalReply(reply.id);

    const spans = await stopped(api, worker);
    const attempts = named(spans, 'reply attempt').sort(
      (a, b) =>
        Number(a.attributes['assistly.reply.attempt']) - Number(b.attributes['assistly.reply.attempt']),
    );
    expect(attempts).toMatchObject([
      {
        status: 2,
        attributes: { 'assistly.reply.outcome': 'retrying', 'error.type': 'provider_unavailable' },
      },
      { status: 0, attributes: { 'assistly.reply.outcome': 'completed', 'assistly.reply.attempt': 2 } },
    ]);
    const [first, second] = attempts as [CollectedSpan, CollectedSpan];
    expect(below(spans, first, 'chat echo-error:500:1')).toMatchObject({
      status: 2,
      events: [],
      attributes: { 'error.type': 'provider_unavailable' },
    });
    const added = below(spans, first, 'add replies.generate');
    expect(second.parentSpanId).toBe(below(spans, added, 'process replies').spanId);
    expect(second.traceId).toBe(named(spans, 'POST /v1/sessions/:id/messages')[0]?.traceId);
    expect(collector.bodies.join()).not.toContain('canary');
  });

  it('of a reply that waited behind another one are its own, linked to the one that let it go', async () => {
    const { api, worker } = await launchBoth({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
    const { sessionId, guest } = await openSession(api, 'pace:60');
    const first = await guest.postMessage(sessionId, `First on ${backend}?`);
    await provider.callAbout(`First on ${backend}?`);

    const second = await guest.postMessage(sessionId, 'Second?');
    await guest.finalReply(second.reply.id);

    const spans = await stopped(api, worker);
    const attemptOf = (replyId: string) =>
      named(spans, 'reply attempt').find(({ attributes }) => attributes['assistly.reply.id'] === replyId)!;
    const [next] = named(spans, 'next reply');
    expect(next).toMatchObject({
      parentSpanId: undefined,
      links: [{ spanId: attemptOf(first.reply.id).spanId, traceId: attemptOf(first.reply.id).traceId }],
      attributes: { 'assistly.reply.id': second.reply.id, 'assistly.session.id': sessionId },
    });
    expect(attemptOf(second.reply.id).traceId).toBe(next!.traceId);
    expect(attemptOf(first.reply.id).traceId).not.toBe(next!.traceId);
  });

  it('hold a stream until it begins, and neither health checks nor what BullMQ does all day', async () => {
    const { api, worker } = await launchBoth({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url });
    const { sessionId, guest } = await openSession(api, 'ok');
    const stream = await guest.follow(sessionId).opened();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await stream.close();
    expect((await fetch(`${api.url}/v1/nothing/canary-path`)).status).toBe(404);

    const spans = await stopped(api, worker);
    // The tokens of the new chatbot are counted in the first seconds, or have not been when this ends.
    const ofCounting = new Set(named(spans, 'add replies.count_tokens').map(({ traceId }) => traceId));
    const others = spans.filter(({ traceId }) => !ofCounting.has(traceId));
    expect(others.map(({ name }) => name).sort()).toEqual([
      'GET', // nothing of a path that is no route's
      'GET /v1/sessions/:id/events',
      'POST /v1/chatbots',
      'POST /v1/chatbots/:id/sessions',
    ]);
    expect(named(spans, 'GET /v1/sessions/:id/events')[0]?.durationMs).toBeLessThan(1_000);
    expect(collector.bodies.join()).not.toContain('canary');
  });

  it('are not sent without the setting, and of an unsampled caller neither', async () => {
    const off = await launchBoth({});
    const { sessionId, guest } = await openSession(off.api, 'ok');
    const { reply } = await guest.postMessage(sessionId, 'Off?');
    await guest.finalReply(reply.id);
    await stopped(off.api, off.worker);
    expect(collector.bodies).toEqual([]);
    expect(off.api.program.stdout + off.worker.program.stdout).not.toContain('traceId');

    const none = await launchBoth({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_TRACES_SAMPLER_ARG: '0',
    });
    const { reply: unsampled } = await guest.at(none.api.url).postMessage(sessionId, 'Unsampled?');
    await guest.at(none.api.url).finalReply(unsampled.id);
    expect(await stopped(none.api, none.worker)).toEqual([]);
  });

  // Nothing of this depends on the queue's store.
  if (backend !== 'postgres') return;
  it.each([
    ['hangs', async () => startOtlpCollector({ answers: false })],
    ['is gone', async () => ({ url: 'http://127.0.0.1:1', close: async () => undefined })],
  ])('delay nothing where the collector %s', async (_, startBroken) => {
    const broken = await startBroken();
    const { api, worker } = await launchBoth({ OTEL_EXPORTER_OTLP_ENDPOINT: broken.url });
    const { sessionId, guest } = await openSession(api, 'ok');
    for (const question of ['One?', 'Two?']) {
      const { reply } = await guest.postMessage(sessionId, question);
      expect(await guest.finalReply(reply.id)).toMatchObject({ status: 'completed' });
    }
    const warnings = (): string[] =>
      api.program.log.filter(({ event }) => event === 'traces.export_failed').map(({ msg }) => msg);
    await waitFor('a warning', () => warnings().length > 0, { timeoutMs: 30_000 });
    await guest.get(`/v1/sessions/${sessionId}`); // one more batch

    const stoppedAt = performance.now();
    await stopped(api, worker);

    expect(performance.now() - stoppedAt).toBeLessThan(10_000);
    expect(warnings()).toHaveLength(1);
    await broken.close();
  });
});
