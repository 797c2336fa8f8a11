import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { ask, callsAbout, newQuestion } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import {
  about,
  FOLLOWING,
  INFLECTED,
  MISSPELT,
  type Question,
  SHARING,
  TWO_HUNDRED,
} from '../support/two-hundred-characteristics.js';
import { waitFor } from '../support/wait.js';

/** What reaches the model of what owners write, and what the owner is told of it. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    // Holds forty of the two hundred.
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'sk-test', CONTEXT_MAX_TOKENS: '2060' },
    timings: { reconcileIntervalMs: 200 },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

const create = (characteristics: readonly string[], more: object = {}): Promise<Json> =>
  stack.owner().createChatbot({ name: 'Leisure', model: 'ok', characteristics, ...more });

const read = async (id: string): Promise<Json> => (await stack.owner().get(`/v1/chatbots/${id}`)).body;

/** The chatbot, once a worker has counted its tokens. */
async function counted(id: string): Promise<Json> {
  await waitFor('the tokens to be counted', async () => {
    const rows = await stack.database.query<{ is_counted: boolean }>(
      `select is_counted from chatbot_characteristics where chatbot_id = '${id}'
       union all select is_counted from chatbots where id = '${id}' and instructions is not null`,
    );
    return rows.every((row) => row.is_counted);
  });
  return read(id);
}

/** The characteristics that the provider received with a question. */
function received(question: string): string[] {
  const [system] = callsAbout(provider, question).at(-1)!.body.messages;
  return [...system!.content.matchAll(/<characteristic>\n([^]*?)\n<\/characteristic>/g)].map(
    ([, text]) => text!,
  );
}

describe('the characteristics', () => {
  it('all reach the model where all fit, in the owner’s order, and the reply says so', async () => {
    const facts = TWO_HUNDRED.slice(0, 30);
    const { id } = await create(facts);
    const { session, guest } = await stack.client().openSession(id);
    const question = newQuestion();

    const reply = await ask({ session, guest }, question);

    expect(received(question)).toEqual(facts);
    expect(reply.characteristicsUsed).toEqual({ used: 30, of: 30 });
  });

  it('that do not all fit are chosen by the question, also the last of ninety, and the reply says how many', async () => {
    const facts = [...TWO_HUNDRED.slice(0, 89), 'Of the lighthouse only the keeper has a key.'];
    const { id } = await create(facts);
    const { session, guest } = await stack.client().openSession(id);
    const question = `Who has the key of the lighthouse? ${newQuestion()}`;

    const reply = await ask({ session, guest }, question);

    const told = received(question);
    expect(told).toContain(facts[89]);
    expect(told.slice(0, 5)).toEqual(facts.slice(0, 5));
    expect(told).toEqual(facts.filter((fact) => told.includes(fact)));
    expect(reply.characteristicsUsed).toEqual({ used: told.length, of: 90 });
    expect(reply.characteristicsUsed.used).toBeLessThan(90);
  });

  it('are none of a chatbot that has none', async () => {
    const { id } = await create([]);
    const { session, guest } = await stack.client().openSession(id);

    const { reply } = await guest.postMessage(session.id, newQuestion());
    expect(reply.characteristicsUsed).toBeNull();
    expect((await guest.finalReply(reply.id)).characteristicsUsed).toEqual({ used: 0, of: 0 });
  });
});

describe('of two hundred characteristics of ten topics, where forty fit', () => {
  let chatbotId: string;
  beforeAll(async () => {
    chatbotId = (await create(TWO_HUNDRED)).id;
  });

  /** The questions whose characteristic the provider did not receive. */
  async function missed(questions: readonly Question[]): Promise<string[]> {
    const results = await Promise.all(
      questions.map(async ({ thing, before, question }) => {
        const { session, guest } = await stack.client().openSession(chatbotId);
        if (before !== undefined) await ask({ session, guest }, before);
        const { characteristicsUsed } = await ask({ session, guest }, question);
        const told = received(question);
        expect(characteristicsUsed).toEqual({ used: told.length, of: 200 });
        expect(told.length).toBeGreaterThanOrEqual(35);
        expect(told.length).toBeLessThanOrEqual(45);
        return told.includes(about(thing)) ? [] : [question];
      }),
    );
    return results.flat();
  }

  it('the one that a question shares a word with reaches the model', async () => {
    expect(await missed(SHARING)).toEqual([]);
  });

  it('the one whose word the question has in another form reaches the model', async () => {
    expect(await missed(INFLECTED)).toEqual([]);
  });

  it('the one whose word is misspelt in the question reaches the model', async () => {
    expect(await missed(MISSPELT)).toEqual([]);
  });

  it('the one that only the message before names reaches the model', async () => {
    expect(await missed(FOLLOWING)).toEqual([]);
  });
});

describe('an owner', () => {
  it('is told what the texts take of a prompt: at most, and soon exactly', async () => {
    const texts = { instructions: 'Be kind.' };
    const created = await create(TWO_HUNDRED.slice(0, 15), texts);
    expect(created).toMatchObject({ promptTokens: expect.any(Number), exceedsContext: expect.any(Boolean) });

    const exact = await counted(created.id);

    expect(exact.promptTokens).toBeLessThan(created.promptTokens);

    expect(exact.promptTokens).toBeGreaterThan(15 * 20);
    expect(exact.promptTokens).toBeLessThan(15 * 40 + 100);
    expect(exact.exceedsContext).toBe(false);
    const listed = (await stack.owner().get('/v1/chatbots')).body.data.find(
      ({ id }: Json) => id === created.id,
    );
    expect(listed).toMatchObject({ promptTokens: exact.promptTokens, exceedsContext: false });
  });

  it('is told where they are too many for every prompt', async () => {
    const { id } = await create(TWO_HUNDRED);

    expect(await counted(id)).toMatchObject({ exceedsContext: true });
  });

  it('is told anew after each change', async () => {
    const owner: ApiClient = stack.owner();
    const { id, promptTokens: nothing } = await create([]);
    expect(nothing).toBe(0);
    const tokensOf = async (): Promise<number> => (await read(id)).promptTokens;
    const countedTokens = async (): Promise<number> => (await counted(id)).promptTokens;
    const path = `/v1/chatbots/${id}`;

    const { body: bread } = await owner.post(`${path}/characteristics`, { content: 'We sell bread.' });
    const atMost = await tokensOf();
    const withBread = await countedTokens();
    expect(withBread).toBeGreaterThan(0);
    expect(withBread).toBeLessThan(atMost);

    await owner.patch(`${path}/characteristics/${bread.id}`, { content: 'We sell bread, rolls and cake.' });
    const withCake = await countedTokens();
    expect(withCake).toBeGreaterThan(withBread);

    await owner.patch(path, { instructions: 'Be kind.' });
    const withInstructions = await countedTokens();
    expect(withInstructions).toBeGreaterThan(withCake);

    await owner.patch(path, { instructions: null });
    expect(await countedTokens()).toBe(withCake);

    await owner.delete(`${path}/characteristics/${bread.id}`);
    expect(await tokensOf()).toBe(0);
  });
});
