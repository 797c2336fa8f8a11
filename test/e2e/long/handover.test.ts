import { afterEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { connect } from 'node:net';
import { EventSource } from 'eventsource';
import type { Recorded } from '../../support/api-client.js';
import { type Balancer, startBalancer } from '../../support/balancer.js';
import { checkedFetch, checkEvent } from '../../support/contract.js';
import { callsAbout, converse, newQuestion } from '../../support/conversations.js';
import { answerTo, type RawProvider, startRawProvider } from '../../support/raw-provider.js';
import { textOf } from '../../support/sse-recorder.js';
import { Stack, type StackOptions } from '../../support/stack.js';
import { waitFor } from '../../support/wait.js';

const close: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of close.splice(0).reverse()) await end();
});

async function start(options: StackOptions): Promise<{ stack: Stack; provider: RawProvider }> {
  const provider = await startRawProvider();
  close.push(() => provider.close());
  const stack = await Stack.start({
    ...options,
    env: { OPENAI_BASE_URL: provider.baseUrl, REPLY_ATTEMPTS: '2', ...options.env },
  });
  close.push(() => stack.stop());
  return { stack, provider };
}

async function balance(stack: Stack): Promise<Balancer> {
  const balancer = await startBalancer(stack.apis.map(({ url }) => url));
  close.push(() => balancer.close());
  return balancer;
}

/** A browser that follows a session: it knows nothing but the URL, and comes back by itself. */
interface Browser {
  events: Recorded[];
  /** How often it opened a connection. */
  connections: number;
  next(event: string, replyId: string): Promise<Recorded>;
}

function browse(url: string, token?: string): Browser {
  const browser: Browser = {
    events: [],
    connections: 0,
    next: (event, replyId) =>
      waitFor(
        `${event} in the browser`,
        () =>
          browser.events.find(
            (recorded) =>
              recorded.event === event && (recorded.data.replyId ?? recorded.data.reply?.id) === replyId,
          ),
        { timeoutMs: 40_000 },
      ),
  };
  const source = new EventSource(url, {
    fetch: (input, init) => {
      browser.connections++;
      const headers = { ...init.headers, ...(token !== undefined && { Authorization: `Bearer ${token}` }) };
      return checkedFetch(input, { ...init, headers });
    },
  });
  close.push(() => source.close());
  for (const event of [
    'message.created',
    'reply.queued',
    'reply.started',
    'reply.delta',
    'reply.completed',
    'reply.failed',
    'session.snapshot',
  ]) {
    source.addEventListener(event, ({ lastEventId, data }) => {
      const recorded = { id: lastEventId, event, data: JSON.parse(data) };
      checkEvent(recorded);
      browser.events.push(recorded);
    });
  }
  return browser;
}

describe('an api that stops', () => {
  it('in the middle of a reply hands its watchers over to another one, and they lose and repeat nothing', async () => {
    const { stack } = await start({ apis: 2 });
    const balancer = await balance(stack);
    const { session, guest, cursor } = await converse(stack, 'pace:150');
    const events = `${balancer.url}/v1/sessions/${session.id}/events?after=${cursor}`;
    const { token } = (await guest.post(`/v1/sessions/${session.id}/events/token`)).body;
    const browsers = [browse(events, guest.token), browse(`${events}&token=${token}`)];
    const steady = guest.at(stack.apis[1]!.url).follow(session.id, { after: cursor });
    const { reply } = await guest.at(balancer.url).postMessage(session.id, 'What do you sell?');
    for (const browser of browsers) await browser.next('reply.delta', reply.id);

    await stack.apis[0]!.app.close(); // the one that the balancer tries first

    expect(await guest.at(balancer.url).finalReply(reply.id)).toMatchObject({
      status: 'completed',
      attempt: 1,
    });
    const stored = (await guest.at(balancer.url).messages(session.id)).at(-1).content;
    expect(stored).toBe(answerTo('What do you sell?'));
    for (const browser of browsers) {
      await browser.next('reply.completed', reply.id);
      expect(browser.connections).toBe(2);
      expect(textOf(browser.events, reply.id)).toBe(stored);
      expect(browser.events).toEqual(steady.events);
    }
    await steady.close();
  });

  it('one after the other, is not noticed by who follows a session through all of them', async () => {
    const { stack } = await start({ apis: 1 });
    const balancer = await balance(stack);
    const { session, guest, cursor } = await converse(stack, 'pace:120');
    const browser = browse(`${balancer.url}/v1/sessions/${session.id}/events?after=${cursor}`, guest.token);
    const first = await guest.postMessage(session.id, 'What do you sell?');
    await browser.next('reply.delta', first.reply.id);
    let seen = 0;

    for (let round = 0; round < 3; round++) {
      const next = await stack.addApi();
      balancer.targets = [...balancer.targets.slice(-1), next.url];
      await stack.apis[round]!.app.close();
      // Something new through the next one: a browser that came back, and not one that was left with what it had.
      seen = browser.events.length;
      await guest.at(next.url).postMessage(session.id, `And round ${round}?`);
      await waitFor('the browser to hear more', () => browser.events.length > seen);
    }

    const replyIds = await guest
      .at(balancer.url)
      .messages(session.id)
      .then((messages) => [...new Set(messages.map(({ replyId }) => replyId))]);
    for (const replyId of replyIds) {
      expect(await guest.at(balancer.url).finalReply(replyId)).toMatchObject({ status: 'completed' });
      const completed = await browser.next('reply.completed', replyId);
      expect(textOf(browser.events, replyId)).toBe(completed.data.message.content);
    }
    expect(browser.events.map(({ event }) => event)).not.toContain('session.snapshot');
    expect(new Set(browser.events.map(({ id }) => id)).size).toBe(browser.events.length);
    expect(browser.connections).toBeGreaterThan(3);
  });

  it('is not held up by a connection that has never asked for anything', async () => {
    const { stack } = await start({ workers: 0 });
    const { hostname, port } = new URL(stack.apis[0]!.url);
    const client = connect(Number(port), hostname);
    close.push(() => client.destroy());
    await once(client, 'connect');

    const closed = once(client, 'close');
    await stack.apis[0]!.app.close();

    await closed;
  });
});

describe('a worker that stops', () => {
  const SESSIONS = 5;

  async function speakInAll(stack: Stack, model: string) {
    const conversations = await Promise.all(Array.from({ length: SESSIONS }, () => converse(stack, model)));
    return Promise.all(
      conversations.map(async ({ session, guest, cursor }) => {
        const question = newQuestion();
        const stream = guest.follow(session.id, { after: cursor });
        close.push(() => stream.close());
        const { reply } = await guest.postMessage(session.id, question);
        await stream.next('reply.delta', reply.id);
        return { session, guest, question, stream, replyId: reply.id as string };
      }),
    );
  }

  it('finishes what it has begun, within its time, and begins nothing new', async () => {
    const DRAIN_TIMEOUT_MS = 20_000;
    const { stack } = await start({ env: { DRAIN_TIMEOUT_MS: String(DRAIN_TIMEOUT_MS) } });
    const running = await speakInAll(stack, 'pace:80');
    const late = await converse(stack, 'ok');

    const stopping = stack.workers[0]!.close();
    const { reply } = await late.guest.postMessage(late.session.id, 'Is it too late?');
    const startedAt = performance.now();
    await stopping;
    const tookMs = performance.now() - startedAt;

    expect(tookMs).toBeLessThan(DRAIN_TIMEOUT_MS);
    for (const { guest, session, question, replyId } of running) {
      const { body } = await guest.get(`/v1/replies/${replyId}`);
      expect(body).toMatchObject({ status: 'completed', attempt: 1 });
      expect((await guest.messages(session.id)).at(-1).content).toBe(answerTo(question));
    }
    expect((await late.guest.get(`/v1/replies/${reply.id}`)).body).toMatchObject({
      status: 'queued',
      attempt: 0,
    });
    await stack.addWorker();
    expect(await late.guest.finalReply(reply.id)).toMatchObject({ status: 'completed', attempt: 1 });
  });

  it('hands back what it cannot finish in time, uncharged, and another one finishes it at once', async () => {
    const { stack, provider } = await start({
      env: { DRAIN_TIMEOUT_MS: '0' },
      timings: { reconcileIntervalMs: 600_000 }, // whoever hands back enqueues it too
    });
    const running = await speakInAll(stack, 'pace:80');
    await stack.addWorker();

    await stack.workers[0]!.close();
    for (const { stream, replyId } of running) {
      await waitFor('the second attempt', () =>
        stream.ofType('reply.started').some(({ data }) => data.replyId === replyId && data.attempt === 2),
      );
    }
    for (const { guest, session, question, stream, replyId } of running) {
      expect(await guest.finalReply(replyId)).toMatchObject({ status: 'completed', attempt: 2 });
      await stream.next('reply.completed', replyId);
      expect(stream.textOf(replyId)).toBe(answerTo(question));
      expect((await guest.messages(session.id)).at(-1).content).toBe(answerTo(question));
      const calls = callsAbout(provider, question);
      expect(await Promise.all(calls.map(({ ended }) => ended))).toEqual(['client', 'provider']);
    }
    const failures = await stack.database.query<{ failures: number }>('select failures from replies');
    expect(failures.map((row) => row.failures)).toEqual(Array(SESSIONS).fill(0));
  });

  it('is followed by others that stop as well: a reply survives more of them than it may have failures', async () => {
    const { stack } = await start({ env: { DRAIN_TIMEOUT_MS: '0' } });
    const running = await speakInAll(stack, 'pace:100');

    for (let attempt = 2; attempt <= 5; attempt++) {
      await stack.addWorker();
      await stack.workers[attempt - 2]!.close();
      for (const { stream, replyId } of running) {
        await waitFor(`attempt ${attempt} to speak`, () =>
          stream
            .ofType('reply.delta')
            .some(({ data }) => data.replyId === replyId && data.attempt === attempt),
        );
      }
    }

    for (const { guest, question, stream, replyId } of running) {
      expect(await guest.finalReply(replyId)).toMatchObject({ status: 'completed', attempt: 5, error: null });
      await stream.next('reply.completed', replyId);
      expect(stream.textOf(replyId)).toBe(answerTo(question));
    }
  });

  it('right after its start does not hang', async () => {
    const { stack } = await start({ workers: 0 });
    for (let round = 0; round < 5; round++) {
      const worker = await stack.addWorker();

      await expect(worker.close()).resolves.toBeUndefined();
    }
  });
});
