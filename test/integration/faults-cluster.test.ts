import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Command } from 'ioredis';
import type { Json } from '../support/api-client.js';
import { converse, newQuestion, violations } from '../support/conversations.js';
import { ProductLog } from '../support/product-log.js';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { ask } from '../support/redis-servers.js';
import { answered, ANSWERED_WITHIN_MS, readiness, startOnRedis } from '../support/redis-product.js';
import { startRedis, startRedisCluster } from '../support/services.mjs';
import type { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** A Redis Cluster as it is run: primaries die, slots move, nodes are named where none should be. */

/** A subscriber rereads the log only after that; who has the text sooner was told of it. */
const REREAD_MS = 15_000;
const PREFIX = 'cluster-test';

type RedisCluster = Awaited<ReturnType<typeof startRedisCluster>>;

const describeWithRedis = globalThis.HAS_REDIS ? describe : describe.skip;

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(() => provider.close());

const startStack = (env: Record<string, string>): Promise<Stack> =>
  startOnRedis(provider, { REDIS_PREFIX: PREFIX, ...env });

const namedIn = ({ url, nodes }: RedisCluster): Record<string, string> => ({
  REDIS_URL: url,
  REDIS_CLUSTER_NODES: nodes,
});

const slotOf = (key: string): number => new Command('get', [key]).getSlot();

/** The URL of the primary that has a key's slot, by what the node at `url` knows. */
async function primaryOf(url: string, key: string): Promise<string> {
  const ranges = (await ask(url, 'CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
  const [, , [host, port]] = ranges.find(([from, to]) => from <= slotOf(key) && slotOf(key) <= to)!;
  return `redis://${host}:${port}`;
}

/** Moves a key's slot, with all that is in it, to another primary, as `redis-cli --cluster reshard` does. */
async function moveSlot({ servers }: RedisCluster, key: string): Promise<void> {
  const slot = String(slotOf(key));
  const from = await primaryOf(servers[0]!.url, key);
  const to = servers.map(({ url }) => url).find((url) => url !== from)!;
  const idOf = async (url: string): Promise<string> => String(await ask(url, 'CLUSTER', 'MYID'));
  const [fromId, toId] = await Promise.all([idOf(from), idOf(to)]);
  await ask(to, 'CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId);
  await ask(from, 'CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId);
  const { hostname, port } = new URL(to);
  for (;;) {
    const keys = (await ask(from, 'CLUSTER', 'GETKEYSINSLOT', slot, '100')) as string[];
    if (keys.length === 0) break;
    await ask(from, 'MIGRATE', hostname, port, '', '0', '5000', 'KEYS', ...keys);
  }
  for (const url of [to, from, ...servers.map((server) => server.url)]) {
    await ask(url, 'CLUSTER', 'SETSLOT', slot, 'NODE', toId);
  }
}

describeWithRedis('on a Redis Cluster', () => {
  let cluster: RedisCluster;
  let stack: Stack;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    stack = await startStack(namedIn(cluster));
  });
  afterAll(async () => {
    await stack.stop();
    await cluster.stop();
  });

  it('sessions are spread over all primaries, and the queue is in one slot', async () => {
    await Promise.all(Array.from({ length: 12 }, () => answered(stack)));

    const keys = await Promise.all(
      cluster.servers.map(async ({ url }) => (await ask(url, 'KEYS', '*')) as string[]),
    );
    for (const ofNode of keys) expect(ofNode.filter((key) => key.endsWith(':log')).length).toBeGreaterThan(0);
    const ofQueue = keys.flat().filter((key) => key.startsWith(`{${PREFIX}:bull}:`));
    expect(ofQueue.length).toBeGreaterThan(0);
    expect(keys.filter((ofNode) => ofNode.some((key) => ofQueue.includes(key)))).toHaveLength(1);
    // And nothing else: a key outside would be in another slot, or of another product.
    expect(keys.flat().filter((key) => !key.startsWith(PREFIX) && !ofQueue.includes(key))).toEqual([]);
  });

  it('what is published stays with the node that has the session', async () => {
    const { guest, session, cursor } = await converse(stack, 'pace:30');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, newQuestion());
    await stream.next('reply.delta', reply.id);

    const channel = `${PREFIX}:{${session.id}}:news`;
    const listening = await Promise.all(
      cluster.servers.map(async ({ url }) => {
        const [, count] = (await ask(url, 'PUBSUB', 'SHARDNUMSUB', channel)) as [string, number];
        return count > 0 ? [url] : [];
      }),
    );
    expect(listening.flat()).toEqual([await primaryOf(cluster.url, channel)]);
    await stream.next('reply.completed', reply.id);
    await stream.close();
  });

  it('a slot that moves in mid-answer takes its subscribers along, without waiting for a reread', async () => {
    for (let round = 0; round < 3; round++) {
      const { guest, session, cursor } = await converse(stack, 'pace:100');
      const stream = guest.follow(session.id, { after: cursor });
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await stream.next('reply.delta', reply.id);

      await moveSlot(cluster, `${PREFIX}:{${session.id}}:news`);

      const { finishedAt } = await guest.finalReply(reply.id, 30_000);
      await stream.next('reply.completed', reply.id);
      expect(Date.now() - Date.parse(finishedAt)).toBeLessThan(REREAD_MS / 2);
      expect(stream.textOf(reply.id)).toBe(answerTo(question));
      await stream.close();
    }
  });

  it("the queue's slot moves while posts go on, and each is answered", async () => {
    const replies = Array.from({ length: 10 }, async (_, index) => {
      await sleep(index * 100);
      return answered(stack, 30_000);
    });
    await sleep(300);
    await moveSlot(cluster, `{${PREFIX}:bull}`);
    await Promise.all(replies);
    await waitFor('nothing to be left', async () => (await violations(stack)).length === 0);
    expect((await readiness(stack)).status).toBe(200);
  });

  it.each([
    ['the queue', true],
    ['sessions alone', false],
  ])(
    'a primary of %s that falls silent keeps no post waiting, and all are answered once it speaks again',
    async (_what, isOfQueue) => {
      const queues = await primaryOf(cluster.url, `{${PREFIX}:bull}`);
      const silent = cluster.servers.find(({ url }) => (url === queues) === isOfQueue)!;
      const sessions = await Promise.all(Array.from({ length: 12 }, () => converse(stack, 'ok')));
      silent.process.kill('SIGSTOP');
      try {
        const posted = await Promise.all(
          sessions.map(async ({ guest, session }) => {
            const startedAt = performance.now();
            const { reply } = await guest.postMessage(session.id, newQuestion());
            return { guest, session, reply, tookMs: performance.now() - startedAt };
          }),
        );
        // Cursor, publishing and enqueueing wait a second or two each at most.
        expect(Math.max(...posted.map(({ tookMs }) => tookMs))).toBeLessThan(8_000);
        expect((await readiness(stack)).status).toBe(503);
        silent.process.kill('SIGCONT');
        for (const { guest, reply } of posted) {
          expect(await guest.finalReply(reply.id, 60_000)).toMatchObject({ status: 'completed' });
        }
      } finally {
        silent.process.kill('SIGCONT');
      }
      await waitFor('nothing to be left', async () => (await violations(stack)).length === 0);
      await waitFor('readiness', async () => (await readiness(stack)).status === 200);
    },
    120_000,
  );

  it('a primary that deletes jobs when its memory is full keeps a process in production from being ready', async () => {
    const [, , last] = cluster.servers;
    await ask(last!.url, 'CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    const other = await startStack({
      ...namedIn(cluster),
      NODE_ENV: 'production',
      CLERK_SECRET_KEY: 'sk_test_none',
    });
    try {
      const { text } = await waitFor('the refusal', async () => {
        const answer = await readiness(other);
        return answer.text.includes('allkeys-lru') ? answer : null;
      });
      expect(text).toContain('maxmemory-policy');
      await ask(last!.url, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
      await waitFor('readiness', async () => (await readiness(other)).status === 200);
    } finally {
      await ask(last!.url, 'CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
      await other.stop();
    }
  });
});

describeWithRedis('a Redis Cluster with replicas', () => {
  let cluster: RedisCluster;
  let stack: Stack;
  beforeEach(async () => {
    cluster = await startRedisCluster({ replicas: 1 });
    for (const { url } of cluster.servers) {
      await ask(url, 'CONFIG', 'SET', 'masterauth', 'secret', 'requirepass', 'secret');
    }
    const url = cluster.url.replace('//', '//:secret@');
    stack = await startStack({ REDIS_URL: url, REDIS_CLUSTER_NODES: cluster.nodes });
  });
  afterEach(async () => {
    await stack.stop();
    await cluster.stop();
  });

  it.each([
    ['the queue', `{${PREFIX}:bull}`],
    ['sessions alone', null],
  ])(
    'in which the primary of %s dies loses nothing, and posts are answered within ten seconds of the replica taking over',
    async (_what, queueKey) => {
      await answered(stack);
      const withPassword = (url: string): string => url.replace('//', '//:secret@');
      const of = (key: string): Promise<string> => primaryOf(withPassword(cluster.url), key);
      const queues = await of(`{${PREFIX}:bull}`);
      const primary = queueKey
        ? queues
        : cluster.servers.slice(0, 3).find(({ url }) => url !== queues && url !== cluster.url)!.url;

      // A session that is told by the one that dies.
      let conversation = await converse(stack, 'pace:100');
      while ((await of(`${PREFIX}:{${conversation.session.id}}:news`)) !== primary) {
        conversation = await converse(stack, 'pace:100');
      }
      const { guest, session, cursor } = conversation;
      const stream = guest.follow(session.id, { after: cursor });
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);
      await stream.next('reply.delta', reply.id);

      const { process: victim } = cluster.servers.find(({ url }) => url === primary)!;
      victim.kill('SIGKILL');
      await once(victim, 'exit');
      const other = withPassword(cluster.servers.find(({ url }) => url !== primary)!.url);
      await waitFor(
        'the replica to take over',
        async () => String(await ask(other, 'CLUSTER', 'INFO')).includes('cluster_state:ok'),
        { timeoutMs: 30_000 },
      );

      const took = await Promise.all(Array.from({ length: 10 }, () => answered(stack, 20_000)));
      expect(Math.max(...took)).toBeLessThan(ANSWERED_WITHIN_MS);
      expect(await guest.finalReply(reply.id, 30_000)).toMatchObject({ status: 'completed' });
      // By its event; or where the stream was lost with the primary, and came back after that, by a snapshot.
      await waitFor('the end to be told', () =>
        stream.events.some(({ event, data }) =>
          event === 'session.snapshot'
            ? data.replies.some(({ id, status }: Json) => id === reply.id && status === 'completed')
            : event === 'reply.completed' && data.reply.id === reply.id,
        ),
      );
      expect(stream.textOf(reply.id)).toBe(answerTo(question));
      // And it listens at the new primary: what comes now is not left to a reread.
      const next = await guest.postMessage(session.id, newQuestion());
      const { finishedAt } = await guest.finalReply(next.reply.id, 30_000);
      await stream.next('reply.completed', next.reply.id);
      expect(Date.now() - Date.parse(finishedAt)).toBeLessThan(REREAD_MS / 5);
      await stream.close();
      await waitFor('nothing to be left', async () => (await violations(stack)).length === 0);
      await waitFor('readiness', async () => (await readiness(stack)).status === 200);
    },
    120_000,
  );

  it('that loses a primary and its replica is named by readiness, at no cost in log or processor', async () => {
    await answered(stack);
    const log = new ProductLog();
    try {
      for (const index of [1, 4]) {
        const { process: victim } = cluster.servers[index]!;
        victim.kill('SIGKILL');
        await once(victim, 'exit');
      }
      await waitFor('the refusal', async () => (await readiness(stack)).status === 503);
      await sleep(3_000); // until the cluster has given it up
      const before = log.lines.length;
      const usage = process.cpuUsage();
      await sleep(5_000);
      const { user, system } = process.cpuUsage(usage);
      expect(log.lines.length - before).toBeLessThanOrEqual(5);
      expect((user + system) / 5_000_000).toBeLessThan(0.5);
      expect((await readiness(stack)).text).toContain('event stream');
    } finally {
      log.stop();
    }
  });
});

describeWithRedis('what is no cluster, or not named as one,', () => {
  it.each(['a cluster named as one Redis', 'one Redis named as a cluster'])(
    'such as %s, is named by readiness and in the log at once, and floods neither',
    async (what) => {
      const isCluster = what.startsWith('a cluster');
      const server = await (isCluster ? startRedisCluster({ primaries: 1 }) : startRedis());
      const log = new ProductLog();
      const address = new URL(server.url).host;
      const stack = await startStack({
        REDIS_URL: server.url,
        ...(!isCluster && { REDIS_CLUSTER_NODES: address }),
      });
      try {
        const reason = isCluster
          ? 'REDIS_URL names a node of a Redis Cluster: name its nodes in REDIS_CLUSTER_NODES'
          : 'REDIS_CLUSTER_NODES names a Redis that is no cluster: name it in REDIS_URL alone';
        // Each process says so, nobody having asked for its health.
        await waitFor(
          'the log',
          () => log.lines.filter(({ message }) => message.includes(reason)).length === 2,
        );
        expect(await readiness(stack)).toMatchObject({ status: 503, text: expect.stringContaining(reason) });
        const before = log.lines.length;
        await sleep(5_000);
        expect(log.lines.length - before).toBeLessThanOrEqual(5);
      } finally {
        log.stop();
        await stack.stop();
        await server.stop();
      }
    },
  );
});
