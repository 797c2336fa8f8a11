import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../../support/api-client.js';
import { newQuestion } from '../../support/conversations.js';
import { type RawProvider, startRawProvider } from '../../support/raw-provider.js';
import { Stack, type StackOptions } from '../../support/stack.js';
import { waitFor } from '../../support/wait.js';

/** Who gets a slot of a worker when there are too few for all. */

let provider: RawProvider;
let stack: Stack;
beforeEach(async () => {
  provider = await startRawProvider();
});
afterEach(async () => {
  await stack.stop();
  await provider.close();
});

/** Without the reconciler, which would make up for whatever is forgotten. */
async function start({ concurrency, workers = 1 }: { concurrency: number; workers?: number }): Promise<void> {
  const options: StackOptions = {
    workers,
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      REPLY_CONCURRENCY: String(concurrency),
    },
    timings: { redispatchAfterMs: 3_600_000, attemptBackoffMs: 100 },
  };
  stack = await Stack.start(options);
}

interface Asked {
  guest: ApiClient;
  replyId: string;
  question: string;
}

let owners = 0;
const newOwner = (): ApiClient => stack.owner(`user_fair_${++owners}`);

async function newChatbot(owner = newOwner(), model = 'held'): Promise<string> {
  return (await owner.createChatbot({ name: 'Bakery', model })).id;
}

async function ask(chatbotId: string): Promise<Asked> {
  const { session, guest } = await stack.client().openSession(chatbotId);
  const question = newQuestion();
  const { reply } = await guest.postMessage(session.id, question);
  return { guest, replyId: reply.id, question };
}

const askAll = (chatbotId: string, count: number): Promise<Asked[]> =>
  Promise.all(Array.from({ length: count }, () => ask(chatbotId)));

/** Those that the provider has been asked for. */
const begun = (asked: readonly Asked[]): number =>
  asked.filter(({ question }) => provider.calls.some((call) => call.question === question)).length;

async function untilBegun(asked: readonly Asked[], count: number): Promise<void> {
  await waitFor(`${count} to begin`, () => begun(asked) >= count);
}

/** Long enough for whatever is about to begin. */
async function staysBegun(asked: readonly Asked[], count: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 400));
  expect(begun(asked)).toBe(count);
}

async function release(asked: readonly Asked[]): Promise<void> {
  await Promise.all(asked.map(async ({ question }) => (await provider.callAbout(question)).release()));
}

const ended = (asked: readonly Asked[]): Promise<Json[]> =>
  Promise.all(asked.map(({ guest, replyId }) => guest.finalReply(replyId)));

/** Lets each answer as soon as it has begun. @returns all of them, ended */
async function letAllEnd(asked: readonly Asked[]): Promise<void> {
  const [ends] = await Promise.all([ended(asked), release(asked)]);
  for (const reply of ends) expect(reply).toMatchObject({ status: 'completed', attempt: 1 });
}

describe('a worker', () => {
  it('leaves a slot to a newcomer, however many ask one chatbot, and forgets nobody', async () => {
    await start({ concurrency: 10 });
    const crowd = await askAll(await newChatbot(), 30);
    await untilBegun(crowd, 8);
    await staysBegun(crowd, 8);

    const newcomers = await Promise.all([ask(await newChatbot()), ask(await newChatbot())]);

    await untilBegun(newcomers, 2);
    expect(begun(crowd)).toBe(8);
    await letAllEnd([...newcomers, ...crowd]);
  });

  it('leaves a slot beside many chatbots of one owner', async () => {
    await start({ concurrency: 10 });
    const owner = newOwner();
    const chatbots = await Promise.all(Array.from({ length: 5 }, () => newChatbot(owner)));
    const crowd = (await Promise.all(chatbots.map((id) => askAll(id, 4)))).flat();
    await untilBegun(crowd, 9);
    await staysBegun(crowd, 9);

    const newcomer = await ask(await newChatbot());

    await untilBegun([newcomer], 1);
    await letAllEnd([newcomer, ...crowd]);
  });

  it('gives a slot that is free again to the owner who has the fewest, not to who came first', async () => {
    await start({ concurrency: 4 });
    const [one, two] = [await newChatbot(), await newChatbot()];
    const crowd = [...(await askAll(one, 2)), ...(await askAll(two, 2))];
    await untilBegun(crowd, 4);
    const waiting = [...(await askAll(one, 5)), ...(await askAll(two, 5))];
    const newcomer = await ask(await newChatbot());
    expect(begun([newcomer, ...waiting])).toBe(0);

    await release(crowd.slice(0, 1));

    await untilBegun([newcomer], 1);
    expect(begun(waiting)).toBe(0);
    await letAllEnd([newcomer, ...crowd, ...waiting]);
  });

  it('gives an owner’s slot to the chatbot that has the fewest', async () => {
    await start({ concurrency: 4 });
    const owner = newOwner();
    const [busy, quiet] = [await newChatbot(owner), await newChatbot(owner)];
    const crowd = await askAll(busy, 3);
    await untilBegun(crowd, 3);
    const waiting = await askAll(busy, 4);
    const newcomer = await ask(quiet);
    await staysBegun([newcomer, ...waiting], 0);

    await release(crowd.slice(0, 1));

    await untilBegun([newcomer], 1);
    expect(begun(waiting)).toBe(0);
    await letAllEnd([newcomer, ...crowd, ...waiting]);
  });

  it('with one slot makes all of them, one after the other', async () => {
    await start({ concurrency: 1 });
    const one = await newChatbot();
    const asked = [...(await askAll(one, 6)), ...(await askAll(await newChatbot(), 3))];

    await letAllEnd(asked);
  });

  it('makes all of them beside another worker, each once', async () => {
    await start({ concurrency: 3, workers: 2 });
    const asked = (
      await Promise.all(
        Array.from({ length: 4 }, async () => askAll(await newChatbot(newOwner(), 'pace:2'), 10)),
      )
    ).flat();

    for (const reply of await ended(asked)) expect(reply).toMatchObject({ status: 'completed', attempt: 1 });

    for (const { question } of asked) {
      expect(provider.calls.filter((call) => call.question === question)).toHaveLength(1);
    }
  });

  it('makes what was tried again after a fault, too, in its turn', async () => {
    await start({ concurrency: 2 });
    const asked = await askAll(await newChatbot(newOwner(), 'fail:503:1'), 6);

    for (const reply of await ended(asked)) expect(reply).toMatchObject({ status: 'completed' });
  });
});
