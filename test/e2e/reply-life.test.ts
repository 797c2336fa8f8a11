import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { converse, newQuestion } from '../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { ROOT } from '../support/deploy-files.mjs';
import { Stack } from '../support/stack.js';
import { redisSettings } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

const OPERATOR = { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'secret' };
const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
const WORKER = new RegExp(`^.+/${process.pid}$`);

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test', DRAIN_TIMEOUT_MS: '0', ...OPERATOR },
    timings: { attemptBackoffMs: 400, reconcileIntervalMs: 200 },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const lifeOf = (replyId: string, authorization = basic('operator', 'secret')) =>
  stack.client().request('GET', `/admin/replies/${replyId}`, { headers: { authorization } });

/** Without what was told to those who watch, which another clock may time. */
const namesOf = (life: Json): string[] =>
  life.steps.map(({ step }: Json) => step).filter((step: string) => step !== 'told');

describe('the life of a reply', () => {
  it('is told in order, with who held it and why its attempts failed, and without its text', async () => {
    const { guest, session, cursor } = await converse(stack, 'fail:503:1');
    const stream = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await guest.finalReply(reply.id);
    const retrying = await stream.next('reply.retrying', reply.id);
    await stream.next('reply.completed', reply.id);
    await stream.close();

    // That it was published is noted after it was: its watchers may be faster.
    const { status, body } = await waitFor('the end to be noted', async () => {
      const life = await lifeOf(reply.id);
      return namesOf(life.body).includes('published') ? life : null;
    });

    expect(status).toBe(200);
    expect(body.reply).toMatchObject({ id: reply.id, status: 'completed', attempt: 2 });
    expect(namesOf(body)).toEqual([
      'posted',
      'queued',
      'claimed',
      'attempt_ended',
      'dispatched',
      'claimed',
      'first_token',
      'completed',
      'published',
    ]);
    const told = body.steps.filter(({ step }: Json) => step === 'told');
    expect(told.map(({ reason, attempt }: Json) => [reason, attempt])).toEqual([
      ['message.created', null],
      ['reply.queued', null],
      ['reply.started', 1],
      ['reply.retrying', 1],
      ['reply.started', 2],
      ['reply.completed', 2],
    ]);
    const of = (name: string): Json[] => body.steps.filter(({ step }: Json) => step === name);
    expect(of('claimed')).toMatchObject([
      { attempt: 1, worker: expect.stringMatching(WORKER) },
      { attempt: 2, worker: expect.stringMatching(WORKER) },
    ]);
    expect(of('attempt_ended')).toMatchObject([
      { attempt: 1, reason: 'provider_unavailable', model: 'fail:503:1' },
    ]);
    expect(of('completed')).toMatchObject([{ attempt: 2, reason: 'stop', model: 'fail:503:1' }]);
    const times = body.steps.map(({ at }: Json) => Date.parse(at));
    expect(times).toEqual(times.toSorted((a: number, b: number) => a - b));
    expect(JSON.stringify(body)).not.toContain(question);
    expect(JSON.stringify(body)).not.toContain(answerTo(question).slice(0, 10));
    // Its watchers were told of the delay, and until when.
    expect(retrying.data).toEqual({
      replyId: reply.id,
      attempt: 1,
      reason: 'provider_unavailable',
      retryAt: expect.any(String),
    });
    expect(Date.parse(retrying.data.retryAt)).toBeGreaterThan(Date.parse(of('attempt_ended')[0].at));
  });

  it.each(['guest', 'owner'])('says that the %s stopped it', async (actor) => {
    const { guest, session } = await converse(stack, 'pace:100');
    const { reply } = await guest.postMessage(session.id, newQuestion());
    const caller = actor === 'guest' ? guest : stack.owner();
    await caller.post(`/v1/replies/${reply.id}/cancel`);

    const { body } = await lifeOf(reply.id);

    expect(body.steps.find(({ step }: Json) => step === 'cancel_requested')).toMatchObject({ actor });
    expect(namesOf(body)).toContain('cancelled');
  });

  it('names no attempt of one that was stopped before its first', async () => {
    const { guest, session } = await converse(stack, 'held');
    const question = newQuestion();
    await guest.postMessage(session.id, question);
    const call = await provider.callAbout(question);
    const { reply: waiting } = await guest.postMessage(session.id, newQuestion());
    await guest.post(`/v1/replies/${waiting.id}/cancel`);

    const { body } = await lifeOf(waiting.id);

    expect(body.steps.find(({ step }: Json) => step === 'cancelled')).toMatchObject({ attempt: null });
    call.release();
  });

  it('says that a worker that stopped gave it back, to its watchers too, who keep the text until it starts again', async () => {
    const { guest, session, cursor } = await converse(stack, 'held');
    const stream = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);
    const [stopping] = stack.workers.splice(0, 1);
    await stopping!.close();
    const { data } = await stream.next('reply.retrying', reply.id);
    expect(data).toEqual({ replyId: reply.id, attempt: 1, reason: 'worker_stopped', retryAt: null });
    const late = guest.follow(session.id, { after: 'snapshot' });
    const snapshot = await late.next('session.snapshot');
    const shown = snapshot.data.replies.find(({ id }: Json) => id === reply.id);
    expect(shown).toMatchObject({
      status: 'in_progress',
      attempt: 1,
      delay: { reason: 'worker_stopped', retryAt: null },
    });
    expect(shown.text.length).toBeGreaterThan(0);
    await late.close();

    await stack.addWorker();
    await stream.next('reply.completed', reply.id);
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    await stream.close();

    const { body } = await lifeOf(reply.id);
    expect(body.steps.find(({ step }: Json) => step === 'attempt_ended')).toMatchObject({
      attempt: 1,
      reason: 'worker_stopped',
    });
  });

  it('says of a worker that was lost who it was, and its watchers are told of the delay', async () => {
    const { guest, session, cursor } = await converse(stack, 'held');
    const stream = guest.follow(session.id, { after: cursor });
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    await stream.next('reply.delta', reply.id);

    // As if nothing more had been heard of it; renewed in between, it is lost at the next try.
    const retrying = await waitFor('the lease to be lost', async () => {
      await stack.database.query(
        `update replies set lease_until = now() - interval '1 s' where id = $1 and attempt = 1`,
        [reply.id],
      );
      await sleep(300);
      return stream.ofType('reply.retrying')[0];
    });
    await stream.next('reply.completed', reply.id);

    expect(retrying.data).toEqual({ replyId: reply.id, attempt: 1, reason: 'worker_lost', retryAt: null });
    expect(stream.textOf(reply.id)).toBe(answerTo(question));
    await stream.close();
    const { body } = await lifeOf(reply.id);
    expect(body.steps.filter(({ step }: Json) => step === 'attempt_ended')).toMatchObject([
      { attempt: 1, reason: 'worker_lost', worker: expect.stringMatching(WORKER) },
    ]);
  });

  it('is for operators alone, and of replies that there are', async () => {
    const { guest, session } = await converse(stack, 'ok');
    const { reply } = await guest.postMessage(session.id, newQuestion());
    for (const authorization of [
      '',
      basic('operator', 'wrong'),
      basic('', ''),
      `Bearer ${stack.ownerToken()}`,
    ]) {
      const refused = await lifeOf(reply.id, authorization);
      expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([
        401,
        'Basic realm="assistly"',
      ]);
    }
    expect((await lifeOf('01a203eb-82fd-76a1-a5fa-4018ce01bf49')).status).toBe(404);
    expect((await lifeOf('nonsense')).status).toBe(404);
  });
});

describe('npm run reply', () => {
  const run = (id: string): Promise<{ stdout: string; stderr: string }> =>
    promisify(execFile)(process.execPath, ['dist/src/cli/reply.js', id], {
      cwd: ROOT,
      env: {
        PATH: process.env['PATH'],
        DATABASE_URL: stack.database.url,
        ...(globalThis.BACKEND === 'redis' && { ...redisSettings(), REDIS_PREFIX: stack.redisPrefix }),
      },
    });

  it('finds a reply by its own id, its message’s, its session’s and its request’s', async () => {
    const { guest, session } = await converse(stack, 'ok');
    const requestId = `request-${session.id}`;
    const { body } = await guest.post(
      `/v1/sessions/${session.id}/messages`,
      { content: newQuestion() },
      { 'x-request-id': requestId },
    );
    await guest.finalReply(body.reply.id);

    // Each is a process that starts; the rows are the same on both.
    const ids =
      globalThis.BACKEND === 'redis' ? [requestId] : [body.reply.id, body.message.id, session.id, requestId];
    for (const id of ids) {
      const { stdout } = await run(id);
      expect(stdout).toMatch(
        new RegExp(`^reply ${body.reply.id}: completed, attempt 1, session ${session.id}$`, 'm'),
      );
      expect(stdout).toMatch(/^ {2}\S+Z {2} +\+\d+ ms {2}claimed {9} {2}attempt 1, worker \S+\/\d+$/m);
      expect(stdout).toMatch(/ told {12} {2}attempt 1, reason reply\.started$/m);
      expect(stdout).not.toContain(body.message.content);
    }
  });

  it('says where there is none', async () => {
    await expect(run('nobody-asked')).rejects.toMatchObject({
      code: 1,
      stderr: expect.stringContaining('No reply has to do with nobody-asked.'),
    });
  });
});

describe('joining without guessing', () => {
  it('begins with a snapshot where one is asked for, and goes on by the header', async () => {
    const { guest, session } = await converse(stack, 'ok');
    const { reply, message } = await guest.postMessage(session.id, newQuestion());
    await guest.finalReply(reply.id);

    const stream = guest.follow(session.id, { after: 'snapshot' });
    const snapshot = await stream.next('session.snapshot');
    await stream.close();

    expect(snapshot.data.messages.map(({ id }: Json) => id)).toContain(message.id);
    const again = guest.follow(session.id, { after: 'snapshot', lastEventId: snapshot.id });
    const next = await guest.postMessage(session.id, newQuestion());
    const { data } = await again.next('message.created');
    expect(data.message.id).toBe(next.message.id);
    expect(again.events.map(({ event }) => event)).not.toContain('session.snapshot');
    await again.close();
  });
});
