import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { converse, newQuestion, violations } from '../support/conversations.js';
import { ProductLog } from '../support/product-log.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { ask, replicate, startSentinels } from '../support/redis-servers.js';
import { answered, ANSWERED_WITHIN_MS, readiness, startOnRedis } from '../support/redis-product.js';
import { startRedis } from '../support/services.mjs';
import type { Stack } from '../support/stack.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** Redis as it is run: with a replica that takes over, with Sentinels, and with users that may not do everything. */

type Server = Awaited<ReturnType<typeof startRedis>>;

let provider: RawProvider;
beforeAll(async () => {
  provider = await startRawProvider();
});
afterAll(() => provider.close());

const startStack = (env: Record<string, string>): Promise<Stack> => startOnRedis(provider, env);

(globalThis.HAS_REDIS ? describe : describe.skip)('a failover of Redis', () => {
  let first: Server;
  let second: Server;
  beforeEach(async () => {
    [first, second] = await Promise.all([startRedis(), startRedis()]);
    await replicate(second.url, first.url);
  });
  afterEach(() => Promise.all([first.stop(), second.stop()]));

  it('in which the primary becomes a replica and keeps its connections loses nothing, and posts are answered within ten seconds', async () => {
    const door = await startTcpProxy(first.url, 6379);
    const stack = await startStack({ REDIS_URL: door.url });
    try {
      await answered(stack);
      const { guest, session } = await converse(stack, 'pace:30');
      const question = newQuestion();
      const { reply } = await guest.postMessage(session.id, question);

      door.retarget(second.url);
      await ask(second.url, 'REPLICAOF', 'NO', 'ONE');
      await replicate(first.url, second.url);

      const took = await Promise.all(Array.from({ length: 10 }, () => answered(stack, 20_000)));
      expect(Math.max(...took)).toBeLessThan(ANSWERED_WITHIN_MS);
      expect(await guest.finalReply(reply.id, 30_000)).toMatchObject({ status: 'completed' });
      await waitFor('nothing to be left', async () => (await violations(stack)).length === 0);
      expect((await readiness(stack)).status).toBe(200);
      // No connection of the product is left at what is a replica now.
      const clients = String(await ask(first.url, 'CLIENT', 'LIST', 'TYPE', 'normal'));
      expect(clients.split('\n').filter((line) => /name=\S*bull/.test(line))).toEqual([]);
    } finally {
      await stack.stop();
      await door.close();
    }
  });

  it('that did not move the address is named by readiness, which reading alone would not see', async () => {
    const stack = await startStack({
      REDIS_URL: first.url,
    });
    try {
      await waitFor('readiness', async () => (await readiness(stack)).status === 200);
      await ask(second.url, 'REPLICAOF', 'NO', 'ONE');
      await replicate(first.url, second.url);
      const { text } = await waitFor('the refusal', async () => {
        const answer = await readiness(stack);
        return answer.status === 503 && answer.text.includes('READONLY') ? answer : null;
      });
      expect(text).toContain('event stream');
      await ask(first.url, 'REPLICAOF', 'NO', 'ONE');
      await waitFor('readiness', async () => (await readiness(stack)).status === 200);
      await answered(stack);
    } finally {
      await stack.stop();
    }
  });

  it.each(['is told to', 'dies'])(
    'by Sentinels, when the primary %s, loses nothing while posts go on',
    async (why) => {
      const sentinels = await startSentinels(first.url, 'assistly-primary', 'of-sentinels');
      const stack = await startStack({
        REDIS_URL: 'redis://nobody-asks-this-host:1',
        REDIS_SENTINELS: sentinels.hosts,
        REDIS_SENTINEL_MASTER: 'assistly-primary',
        REDIS_SENTINEL_PASSWORD: 'of-sentinels',
      });
      try {
        await answered(stack);
        const replies: Promise<unknown>[] = [];
        let goesOn = true;
        const posting = (async () => {
          while (goesOn) {
            replies.push(answered(stack, 30_000));
            await sleep(500);
          }
        })();
        await sleep(1_000);
        if (why === 'dies') {
          first.process.kill('SIGKILL');
          await once(first.process, 'exit');
        } else {
          await ask(sentinels.urls[0]!, 'SENTINEL', 'FAILOVER', 'assistly-primary');
        }
        await waitFor(
          'the second to be the primary',
          async () => String(await ask(second.url, 'INFO', 'replication')).includes('role:master'),
          { timeoutMs: 30_000 },
        );
        const switchedAt = performance.now();
        await answered(stack, ANSWERED_WITHIN_MS);
        expect(performance.now() - switchedAt).toBeLessThan(ANSWERED_WITHIN_MS);
        await sleep(2_000);
        goesOn = false;
        await posting;
        await Promise.all(replies);
        expect(replies.length).toBeGreaterThan(4);
        await waitFor('readiness', async () => (await readiness(stack)).status === 200);
      } finally {
        await stack.stop();
        await sentinels.stop();
      }
    },
  );
});

(globalThis.HAS_REDIS ? describe : describe.skip)('an error of Redis that does not go away', () => {
  it.each(['bzpopmin', 'evalsha', 'set', 'subscribe', 'info', 'publish', 'xadd'])(
    'because the user may not use %s is named by readiness, and costs neither log nor processor',
    async (command) => {
      const redis = await startRedis();
      const user = `user-${randomUUID()}`;
      await ask(
        redis.url,
        'ACL',
        'SETUSER',
        user,
        'on',
        '>secret',
        '~*',
        '&*',
        '+@all',
        `-${command}`,
        ...(command === 'evalsha' ? ['-eval'] : []),
      );
      const url = new URL(redis.url);
      url.username = user;
      url.password = 'secret';
      const log = new ProductLog();
      const stack = await startStack({
        REDIS_URL: url.href,
      });
      try {
        await stack.workers[0]!.listen(0, '127.0.0.1');
        const { guest, session } = await converse(stack, 'ok');
        await guest.postMessage(session.id, newQuestion());
        const { text } = await waitFor('the refusal', async () => {
          const answer = await readiness(stack, 'worker');
          return answer.status === 503 && answer.text.includes('NOPERM') ? answer : null;
        });
        // What a script may not do is told of the script.
        expect(text).toContain(['evalsha', 'publish', 'xadd'].includes(command) ? 'eval' : command);
        await waitFor('a line', () => log.lines.length > 0); // readiness may be told first
        const before = log.lines.length;
        const usage = process.cpuUsage();
        const begun = performance.now();
        await sleep(5_000);
        const { user: busy, system } = process.cpuUsage(usage);
        const seconds = (performance.now() - begun) / 1_000;
        expect(log.lines.length - before).toBeLessThanOrEqual(seconds + 1);
        expect((busy + system) / 1e6 / seconds).toBeLessThan(0.3); // of one processor; a storm takes all of it
      } finally {
        log.stop();
        await stack.stop();
        await redis.stop();
      }
    },
    60_000,
  );
});
