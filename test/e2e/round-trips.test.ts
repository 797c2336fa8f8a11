import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { startModel } from '../../bench/product.mjs';
import type { ApiClient, Json } from '../support/api-client.js';
import {
  type Door,
  isByItself,
  openPostgresDoor,
  openRedisDoor,
  statementName,
} from '../support/round-trips.mjs';
import { Stack } from '../support/stack.js';
import { redisSettings } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

/** Twenty tokens, which come in one piece. */
const TOKENS = Array.from({ length: 20 }, (_, n) => `word${n} `);

/** What a role says to both stores. */
class Doors {
  private counted: string[] = [];

  private constructor(
    private readonly postgres: Door,
    private readonly redis: Door | null,
    private readonly role: 'api' | 'worker',
  ) {}

  static async open(databaseUrl: string, role: 'api' | 'worker'): Promise<Doors> {
    const redis = BACKEND === 'redis' ? await openRedisDoor(redisSettings()['REDIS_URL'] ?? '') : null;
    return new Doors(await openPostgresDoor(databaseUrl), redis, role);
  }

  get env(): Record<string, string> {
    return { DATABASE_URL: this.postgres.url, ...(this.redis && { REDIS_URL: this.redis.url }) };
  }

  /** Names of all statements and commands since the last {@link forget}, sorted: what goes out at once may come in any order. */
  look(): string[] {
    const names = [
      ...this.postgres.take().map(statementName),
      ...(this.redis?.take().flatMap((write) => write.split('\n')) ?? []),
    ];
    this.counted.push(...names.filter((name) => !isByItself(name, this.role)));
    return this.counted.toSorted();
  }

  forget(): void {
    this.look();
    this.counted = [];
  }

  async close(): Promise<void> {
    await this.postgres.close();
    await this.redis?.close();
  }
}

/** Through a pooler each statement has its settings with it; and the doors lead to one Redis, not to a cluster. */
const isCountable =
  process.env['ASSISTLY_TEST_POOLER_PORT'] === undefined &&
  process.env['ASSISTLY_TEST_CLUSTER_NODES'] === undefined;

(isCountable ? describe : describe.skip)('the round trips', () => {
  let model: Awaited<ReturnType<typeof startModel>>;
  let stack: Stack;
  let api: Doors;
  let worker: Doors;
  let owner: ApiClient;
  let guest: ApiClient;
  let session: Json;
  let replyId: string;

  beforeAll(async () => {
    model = await startModel(TOKENS);
    stack = await Stack.start({
      apis: 0,
      workers: 0,
      env: { OPENAI_BASE_URL: model.url, LIMITS_ENABLED: 'true', DATABASE_POOL_MAX: '4' },
      timings: { reconcileIntervalMs: 3_600_000 },
    });
    api = await Doors.open(stack.database.url, 'api');
    worker = await Doors.open(stack.database.url, 'worker');
    await stack.addApi(api.env);
    await stack.addWorker(worker.env);
    owner = stack.owner();
    const chatbot = await owner.createChatbot({
      name: 'Bakery',
      characteristics: ['We are open from 7 to 18.'],
    });
    ({ session, guest } = await stack.client().openSession(chatbot.id));
    // What is done once: scripts are loaded, the chatbot's tokens are counted, its owner is read.
    for (const question of ['When?', 'Where?']) replyId = await ask(question);
  });
  afterAll(async () => {
    await stack.stop();
    await Promise.all([api.close(), worker.close(), model.stop()]);
  });

  /** @returns the id of a reply whose end is stored and published */
  async function ask(question: string): Promise<string> {
    const { reply } = await guest.postMessage(session.id, question);
    await waitFor('the end to be published', async () => {
      const [row] = await stack.database.query('select announced_at from replies where id = $1', [reply.id]);
      return row?.['announced_at'];
    });
    return reply.id;
  }

  /** @param expected of PostgreSQL, and what each store is asked for queue and event stream */
  async function expectAsked(
    doors: Doors,
    { rows, postgres = [], redis = [] }: { rows: string[]; postgres?: string[]; redis?: string[] },
    work: () => Promise<unknown>,
  ): Promise<void> {
    doors.forget();
    await work();
    const expected = [...rows, ...(BACKEND === 'redis' ? redis : postgres)].toSorted();
    await waitFor('all of them', () => doors.look().length >= expected.length).catch(() => undefined);
    expect(doors.look()).toEqual(expected);
  }

  it('of a guest’s post are those of its session, its limits, its rows, its events and its job', async () => {
    await expectAsked(
      api,
      {
        rows: ['select from chat_sessions', 'select from post_message'],
        postgres: [
          'select from count_hits',
          'insert into event_streams',
          'select event_stream_append',
          'BullMQ: add_job',
        ],
        redis: [
          'EVAL limit:messagesPerAddress:127.0.0.1',
          'EVAL limit:messagesPerSession:*',
          'EVAL limit:messagesPerChatbot:*',
          'EVAL {*}', // where the session's stream stands
          'EVAL {*}', // its new entries
          'EVAL bull:replies:wait',
        ],
      },
      () => ask('When are you open?'),
    );
  });

  it('of a reply of 20 tokens are its claim, its conversation, the call, its start, first text, which is kept, rest and end', async () => {
    await expectAsked(
      worker,
      {
        rows: [
          'update replies set status',
          'select from chat_sessions',
          'update replies set model',
          'update replies set partial_text',
          'select from complete_reply',
        ],
        postgres: Array.from({ length: 4 }, () => 'select event_stream_append'),
        redis: [
          'SUBSCRIBE {*}:news', // whether it is cancelled
          ...Array.from({ length: 4 }, () => 'EVAL {*}'),
          'UNSUBSCRIBE {*}:news',
        ],
      },
      () => ask('Is there rye bread?'),
    );
  });

  it('of a page of messages are the session, where its stream stands, and the messages', async () => {
    await expectAsked(
      api,
      {
        rows: ['select from chat_sessions', 'select from messages'],
        postgres: ['insert into event_streams'],
        redis: ['EVAL {*}'],
      },
      () => guest.get(`/v1/sessions/${session.id}/messages`),
    );
  });

  it('of a session is one', async () => {
    await expectAsked(api, { rows: ['select from chat_sessions'] }, () =>
      guest.get(`/v1/sessions/${session.id}`),
    );
  });

  it('of a reply that is read are the session and the reply', async () => {
    await expectAsked(api, { rows: ['select from chat_sessions', 'select from replies'] }, () =>
      guest.get(`/v1/replies/${replyId}`),
    );
  });

  it('of a page of chatbots are the chatbots and the sizes of their characteristics', async () => {
    await expectAsked(api, { rows: ['select from chatbots', 'select from chatbot_characteristics'] }, () =>
      owner.get('/v1/chatbots'),
    );
  });
});
