import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { ormOptions } from '../../mikro-orm.config.js';
import { characteristicPart, instructionsPart } from '../../src/chatbots/prompt-room.js';
import { chatbotsToCount } from '../../src/chatbots/uncounted-texts.js';
import { newId } from '../../src/database/columns.js';
import { Database } from '../../src/database/database.js';
import { countTokens } from '../../src/llm/tokens.js';
import { Shutdown } from '../../src/runtime/shutdown.js';
import { TokenCounter } from '../../src/worker/token-counter.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

/** What a worker stores of the tokens of owners' texts, whoever writes these. */

let testDatabase: TestDatabase;
let database: Database;
let counter: TokenCounter;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = new Database(new MikroORM(ormOptions(testDatabase.url, 5)));
  counter = new TokenCounter(database, new Shutdown());
});
afterAll(async () => {
  await database.close();
  await testDatabase.drop();
});
beforeEach(() => testDatabase.query('delete from chatbots'));

/** As a version writes it that knows nothing of counts. */
async function insertChatbot(instructions: string | null, ...contents: string[]): Promise<string> {
  const id = newId();
  await testDatabase.query(
    `insert into chatbots (id, clerk_user_id, name, instructions) values ($1, 'user_1', 'Bakery', $2)`,
    [id, instructions],
  );
  for (const content of contents) {
    await testDatabase.query(
      'insert into chatbot_characteristics (id, chatbot_id, content) values ($1, $2, $3)',
      [newId(), id, content],
    );
  }
  return id;
}

interface Count {
  tokens: number | null;
  is_counted: boolean;
}
const characteristicsOf = (chatbotId: string): Promise<Count[]> =>
  testDatabase.query(
    'select tokens, is_counted from chatbot_characteristics where chatbot_id = $1 order by id',
    [chatbotId],
  );
const instructionsOf = async (chatbotId: string): Promise<Count> =>
  (
    await testDatabase.query<Count>(
      'select instructions_tokens as tokens, is_counted from chatbots where id = $1',
      [chatbotId],
    )
  )[0]!;
const toCount = async (): Promise<string[]> => [
  ...new Set(await database.read((db) => chatbotsToCount(db, 100))),
];

const exactly = (part: string): Count => ({ tokens: countTokens(part), is_counted: true });
const unknown: Count = { tokens: null, is_counted: false };

describe('counting', () => {
  it('stores what each text takes as it stands in a prompt, and leaves nothing to count', async () => {
    const texts = ['We sell bread.', '漢字 <b>&lt;</b> 😀', 'x'.repeat(8_000)];
    const id = await insertChatbot('Be kind.', ...texts);
    expect(await characteristicsOf(id)).toEqual(texts.map(() => unknown));

    await counter.countAll();

    expect(await characteristicsOf(id)).toEqual(texts.map((text) => exactly(characteristicPart(text))));
    expect(await instructionsOf(id)).toEqual(exactly(instructionsPart('Be kind.')));
    expect(await toCount()).toEqual([]);
  });

  it('takes all chatbots, more than one look brings', async () => {
    const ids = await Promise.all(Array.from({ length: 70 }, () => insertChatbot(null, 'We sell bread.')));
    expect(await toCount()).toHaveLength(ids.length);

    await counter.countAll();

    expect(await toCount()).toEqual([]);
  });

  it('a chatbot without texts asks for nothing', async () => {
    await insertChatbot(null);

    expect(await toCount()).toEqual([]);
  });

  it('may be done twice at once, and while the chatbot goes', async () => {
    const other = new TokenCounter(database, new Shutdown());
    const id = await insertChatbot('Be kind.', ...Array.from({ length: 50 }, (_, n) => `Fact ${n}`));

    await Promise.all([counter.count(id), counter.count(id), other.count(id)]);
    expect((await characteristicsOf(id)).every(({ is_counted }) => is_counted)).toBe(true);

    await testDatabase.query('update chatbot_characteristics set is_counted = false');
    await Promise.all([counter.count(id), testDatabase.query('delete from chatbots')]);
    expect(await toCount()).toEqual([]);
  });

  it('ends soon when the process stops, and leaves the rest to another', async () => {
    const shutdown = new Shutdown();
    const stopping = new TokenCounter(database, shutdown);
    await insertChatbot(null, 'We sell bread.');
    await shutdown.onModuleDestroy();

    await stopping.countAll();

    expect(await toCount()).toHaveLength(1);
  });
});

describe('a text that changes', () => {
  const change = (id: string, column: string, value: string | null): Promise<unknown> =>
    column === 'content'
      ? testDatabase.query('update chatbot_characteristics set content = $2 where chatbot_id = $1', [
          id,
          value,
        ])
      : testDatabase.query('update chatbots set instructions = $2 where id = $1', [id, value]);

  it('is not counted any more, also where a version changes it that knows nothing of counts', async () => {
    const id = await insertChatbot('Be kind.', 'We sell bread.');
    await counter.countAll();

    await change(id, 'content', 'We sell bread and cake.');
    await change(id, 'instructions', 'Be very kind.');

    expect(await characteristicsOf(id)).toEqual([unknown]);
    expect(await instructionsOf(id)).toEqual(unknown);
    expect(await toCount()).toEqual([id]);
  });

  it('stays counted where it is written as it was', async () => {
    const id = await insertChatbot('Be kind.', 'We sell bread.');
    await counter.countAll();

    await change(id, 'content', 'We sell bread.');
    await change(id, 'instructions', 'Be kind.');

    expect(await toCount()).toEqual([]);
  });

  it('while it is counted stays uncounted', async () => {
    const id = await insertChatbot(
      'Be kind. '.repeat(800),
      ...Array.from({ length: 20 }, () => '漢字'.repeat(4_000)),
    );

    const counting = counter.count(id);
    await change(id, 'content', 'We sell bread.');
    await change(id, 'instructions', 'Be short.');
    await counting;
    // Whatever was counted is what the texts are now; the rest is counted next.
    for (const count of await characteristicsOf(id)) {
      expect(count).toEqual(count.is_counted ? exactly(characteristicPart('We sell bread.')) : unknown);
    }

    await counter.countAll();
    expect(await characteristicsOf(id)).toEqual(
      Array.from({ length: 20 }, () => exactly(characteristicPart('We sell bread.'))),
    );
    expect(await instructionsOf(id)).toEqual(exactly(instructionsPart('Be short.')));
  });
});
