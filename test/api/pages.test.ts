import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type pg from 'pg';
import type { ApiClient, Json } from '../support/api-client.js';
import { Stack } from '../support/stack.js';

const { POSTGRES_POOL } =
  await importProduct<typeof import('../../src/database/postgres-pool.js')>('database/postgres-pool.js');

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
});
afterAll(() => stack.stop());

const query = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) =>
  stack.database.query<Row>(text, values);

/** A list of some parent's rows, filled directly: thousands of rows, in any order of time. */
interface OpenList {
  client: ApiClient;
  path: string;
  /** Adds rows at random times of the last day. */
  fill: (count: number) => Promise<void>;
  /** Adds a row in front of all others, and one behind all others, as far as the list allows. */
  addAtEnds: () => Promise<void>;
  /** Of all rows, in the order that the list promises. */
  ids: () => Promise<string[]>;
  remove: (id: string) => Promise<void>;
  /** Gives every row the same time, where time decides. */
  makeSimultaneous?: () => Promise<void>;
}

const pick = (rows: { id: string }[]): string[] => rows.map(({ id }) => id);
const RANDOM_TIME = `now() - random() * interval '1 day'`;

/** A list whose order is a time's. */
interface TimedList {
  path: string;
  client?: ApiClient;
  table: string;
  /** The column of the parent, and its value. */
  parent: [string, string];
  time: 'created_at' | 'active_at';
  direction: 'asc' | 'desc';
  /** Adds $2 rows to the parent $1, at that time. */
  insert: (time: string) => string;
}

function openTimed({ path, client = stack.owner(), table, parent, time, ...list }: TimedList): OpenList {
  const [column, value] = parent;
  const add = (count: number, at: string) => query(list.insert(at), [value, count]);
  return {
    client,
    path,
    fill: async (count) => void (await add(count, RANDOM_TIME)),
    addAtEnds: async () => {
      await add(1, 'clock_timestamp()');
      await add(1, `now() - interval '2 days'`);
    },
    ids: async () =>
      pick(
        await query(
          `select id from ${table} where ${column} = $1 order by ${time} ${list.direction}, id ${list.direction}`,
          [value],
        ),
      ),
    remove: async (id) => void (await query(`delete from ${table} where id = $1`, [id])),
    makeSimultaneous: async () =>
      void (await query(`update ${table} set ${time} = now() where ${column} = $1`, [value])),
  };
}

async function openChatbots(): Promise<OpenList> {
  const user = `user_${randomUUID()}`;
  return openTimed({
    path: '/v1/chatbots',
    client: stack.owner(user),
    table: 'chatbots',
    parent: ['clerk_user_id', user],
    time: 'created_at',
    direction: 'desc',
    // Each with a characteristic, which the list counts: without any, reading the empty table is the best plan.
    insert: (time) => `with bots as (
        insert into chatbots (id, clerk_user_id, name, created_at)
        select gen_random_uuid(), $1, 'bot', ${time} from generate_series(1, $2::int) returning id)
      insert into chatbot_characteristics (id, chatbot_id, content) select gen_random_uuid(), id, 'A fact.' from bots`,
  });
}

async function openCharacteristics(): Promise<OpenList> {
  const { id } = await stack.owner().createChatbot();
  return openTimed({
    path: `/v1/chatbots/${id}/characteristics`,
    table: 'chatbot_characteristics',
    parent: ['chatbot_id', id],
    time: 'created_at',
    direction: 'asc',
    insert: (time) => `insert into chatbot_characteristics (id, chatbot_id, content, created_at)
      select gen_random_uuid(), $1, 'fact', ${time} from generate_series(1, $2::int)`,
  });
}

async function openSessions(): Promise<OpenList> {
  const { id } = await stack.owner().createChatbot();
  return openTimed({
    path: `/v1/chatbots/${id}/sessions`,
    table: 'chat_sessions',
    parent: ['chatbot_id', id],
    time: 'active_at',
    direction: 'desc',
    insert: (time) => `with guest as (
        insert into guests (id, name) select gen_random_uuid(), 'Ada' from generate_series(1, $2::int) returning id)
      insert into chat_sessions (id, chatbot_id, guest_id, token_hash, event_token_key, active_at)
      select gen_random_uuid(), $1, guest.id, replace(guest.id::text, '-', ''), '', ${time} from guest`,
  });
}

async function openMessages(order: 'asc' | 'desc'): Promise<OpenList> {
  const { id: chatbotId } = await stack.owner().createChatbot();
  const { session } = await stack.client().openSession(chatbotId);
  const add = (count: number) =>
    query(
      `insert into messages (id, chat_session_id, sequence, sender, content)
       select gen_random_uuid(), $1, coalesce((select max(sequence) from messages where chat_session_id = $1), 0) + n,
         'user', 'text' from generate_series(1, $2::int) n`,
      [session.id, count],
    );
  return {
    client: stack.owner(),
    path: `/v1/sessions/${session.id}/messages${order === 'asc' ? '' : '?order=desc'}`,
    fill: async (count) => void (await add(count)),
    addAtEnds: async () => void (await add(1)), // they only ever come last
    ids: async () =>
      pick(
        await query(`select id from messages where chat_session_id = $1 order by sequence ${order}`, [
          session.id,
        ]),
      ),
    remove: async (row) => void (await query('delete from messages where id = $1', [row])),
  };
}

/** Each makes the list's parent, and gives what reads and fills it. */
const LISTS: [string, () => Promise<OpenList>][] = [
  ['chatbots, newest first', openChatbots],
  ['characteristics, oldest first', openCharacteristics],
  ['sessions, most recently active first', openSessions],
  ['messages, oldest first', () => openMessages('asc')],
  ['messages, newest first', () => openMessages('desc')],
];

async function readPage(
  { client, path }: Pick<OpenList, 'client' | 'path'>,
  { limit, cursor }: { limit?: number; cursor?: string | null } = {},
): Promise<{ ids: string[]; nextCursor: string | null }> {
  const url = new URL(path, client.baseUrl);
  if (limit !== undefined) url.searchParams.set('limit', String(limit));
  if (cursor) url.searchParams.set('cursor', cursor);
  const { status, body } = await client.get(url.pathname + url.search);
  expect(status).toBe(200);
  expect(Object.keys(body).sort()).toEqual(['data', 'nextCursor']);
  return { ids: body.data.map(({ id }: Json) => id), nextCursor: body.nextCursor };
}

/** Follows `nextCursor` to the end; `meanwhile` runs between pages. */
async function readAll(
  list: OpenList,
  limit: number,
  meanwhile: (page: string[]) => Promise<void> = async () => undefined,
): Promise<string[][]> {
  const pages: string[][] = [];
  for (let cursor: string | null = null; ;) {
    const page = await readPage(list, { limit, cursor });
    pages.push(page.ids);
    if (page.nextCursor === null) return pages;
    cursor = page.nextCursor;
    await meanwhile(page.ids);
  }
}

describe.each(LISTS)('a list of %s', (_, open) => {
  it('is given in pages of the size asked for, every row once and in order, with no cursor after the last', async () => {
    const list = await open();
    await list.fill(25);

    const pages = await readAll(list, 10);

    expect(pages.map(({ length }) => length)).toEqual([10, 10, 5]);
    expect(pages.flat()).toEqual(await list.ids());
  });

  it('ends with a full page where the rows just fill it, and is one empty page where there are none', async () => {
    const list = await open();
    const empty = await readAll(list, 10);
    await list.fill(20);

    const pages = await readAll(list, 10);

    expect(empty).toEqual([[]]);
    expect(pages.map(({ length }) => length)).toEqual([10, 10]);
  });

  it('is given fifty at a time where nothing is asked for', async () => {
    const list = await open();
    await list.fill(51);

    const { ids, nextCursor } = await readPage(list);

    expect(ids).toEqual((await list.ids()).slice(0, 50));
    expect(nextCursor).toEqual(expect.any(String));
  });

  it('neither skips nor repeats a row while others come and go, that of the cursor included', async () => {
    const list = await open();
    await list.fill(60);
    const atFirst = await list.ids();
    const removed = new Set<string>();

    const pages = await readAll(list, 7, async (page) => {
      const last = atFirst.at(-1 - removed.size)!;
      for (const id of [page.at(-1)!, page[0]!, last]) {
        removed.add(id);
        await list.remove(id);
      }
      await list.addAtEnds();
    });

    const seen = pages.flat();
    expect(new Set(seen).size).toBe(seen.length);
    const throughout = atFirst.filter((id) => !removed.has(id));
    expect(seen.filter((id) => throughout.includes(id))).toEqual(throughout);
  });

  it('neither skips nor repeats a row where all have the same time', async () => {
    const list = await open();
    await list.fill(23);
    await list.makeSimultaneous?.();

    const pages = await readAll(list, 5);

    expect(pages.flat()).toEqual(await list.ids());
  });

  it('gives the same page again for the same cursor', async () => {
    const list = await open();
    await list.fill(9);
    const { nextCursor: cursor } = await readPage(list, { limit: 3 });

    const twice = [await readPage(list, { limit: 3, cursor }), await readPage(list, { limit: 3, cursor })];

    expect(twice[1]).toEqual(twice[0]);
  });

  it('takes a cursor with another limit', async () => {
    const list = await open();
    await list.fill(9);
    const { nextCursor: cursor } = await readPage(list, { limit: 2 });

    const { ids } = await readPage(list, { limit: 5, cursor });

    expect(ids).toEqual((await list.ids()).slice(2, 7));
  });
});

describe('a cursor', () => {
  it('is refused by every list but its own: another parent’s, another kind’s, another order’s', async () => {
    const lists: OpenList[] = [];
    for (const [, open] of [...LISTS, ...LISTS]) {
      const list = await open();
      await list.fill(3);
      lists.push(list);
    }
    const { session } = await stack.client().openSession((await stack.owner().createChatbot()).id);
    for (const order of ['asc', 'desc']) {
      lists.push({
        ...lists[0]!,
        client: stack.owner(),
        path: `/v1/sessions/${session.id}/messages?order=${order}`,
      });
    }
    await query(
      `insert into messages (id, chat_session_id, sequence, sender, content)
       select gen_random_uuid(), $1, n, 'user', 'text' from generate_series(1, 3) n`,
      [session.id],
    );

    for (const from of lists) {
      const { nextCursor: cursor } = await readPage(from, { limit: 1 });
      for (const to of lists) {
        const path = `${to.path}${to.path.includes('?') ? '&' : '?'}cursor=${cursor}`;
        const { status, body } = await to.client.get(path);
        if (from === to) expect(status).toBe(200);
        else expect([status, body.code]).toEqual([400, 'invalid_cursor']);
      }
    }
  });
});

describe('sessions by activity', () => {
  it('are never repeated when they become active while one pages', async () => {
    const list = await openSessions();
    await list.fill(30);
    const atFirst = await list.ids();
    const woken: string[] = [];

    const pages = await readAll(list, 5, async (page) => {
      // One that was seen, and one that is still to come.
      for (const id of [page[2]!, atFirst.at(-1 - woken.length)!]) {
        woken.push(id);
        await query('update chat_sessions set active_at = clock_timestamp() where id = $1', [id]);
      }
    });

    const seen = pages.flat();
    expect(new Set(seen).size).toBe(seen.length);
    const asleep = atFirst.filter((id) => !woken.includes(id));
    expect(seen.filter((id) => asleep.includes(id))).toEqual(asleep);
  });
});

describe('messages', () => {
  it('are ordered by sequence, whatever their times are', async () => {
    const list = await openMessages('asc');
    await list.fill(12);
    await query(
      `update messages set created_at = now() - sequence * interval '1 minute'
       where id = any($1::uuid[])`,
      [await list.ids()],
    );

    const pages = await readAll(list, 5);

    expect(pages.flat()).toEqual(await list.ids());
  });
});

describe('a page far down a long list', () => {
  const ROWS = 4_000;

  interface Statement {
    text: string;
    values: unknown[];
  }

  /** The statements that the api sends while `work` runs, seen where it borrows its connections. */
  async function statementsOf(work: () => Promise<unknown>): Promise<Statement[]> {
    const pool = stack.apis[0]!.app.get<pg.Pool>(POSTGRES_POOL, { strict: false });
    const statements: Statement[] = [];
    const originals = new Map<{ query: unknown }, unknown>();
    const listen = (client: { query: (...args: any[]) => any }): void => {
      if (originals.has(client)) return;
      const { query } = client;
      originals.set(client, query);
      client.query = (first: string | Partial<Statement>, second?: unknown[], ...rest: unknown[]) => {
        const { text = '', values } = typeof first === 'string' ? { text: first, values: second } : first;
        statements.push({ text, values: values ?? [] });
        return query.call(client, first, second, ...rest);
      };
    };
    pool.on('acquire', listen);
    try {
      await work();
    } finally {
      pool.off('acquire', listen);
      for (const [client, query] of originals) client.query = query;
    }
    return statements;
  }

  function* nodesOf(plan: Json): Generator<Json> {
    yield plan;
    for (const inner of plan.Plans ?? []) yield* nodesOf(inner);
  }

  it.each(LISTS)('of %s costs what the first one costs: an index leads to it', async (_, open) => {
    const list = await open();
    await list.fill(ROWS);
    const beside = await open();
    await beside.fill(ROWS);
    await query('analyze');
    let cursor: string | null = null;
    for (let page = 0; page < 30; page++)
      ({ nextCursor: cursor } = await readPage(list, { limit: 100, cursor }));

    const statements = await statementsOf(() => readPage(list, { limit: 100, cursor }));

    // A page asks for one row more than it shows; the reconciler may be at work beside it.
    const paging = statements.filter(
      ({ text, values }) => /\blimit 101\b/i.test(text) || values.includes(101),
    );
    expect(paging).toHaveLength(1);
    const [{ text, values }] = paging as [{ text: string; values: unknown[] }];
    const [row] = await query<Json>(`explain (analyze, format json) ${text}`, values);
    const nodes = [...nodesOf(row!['QUERY PLAN'][0].Plan)];
    const kinds = nodes.map((node) => node['Node Type']);
    expect(kinds.filter((kind) => /Seq Scan|Sort|Bitmap/.test(kind))).toEqual([]);
    for (const node of nodes) {
      const read = (node['Actual Rows'] + (node['Rows Removed by Filter'] ?? 0)) * node['Actual Loops'];
      expect([node['Node Type'], read <= 101]).toEqual([node['Node Type'], true]);
    }
  });
});
