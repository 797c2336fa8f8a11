// What each main route, and a reply, ask of PostgreSQL and Redis: named and counted, through doors that see all of it.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import {
  isByItself,
  openPostgresDoor,
  openRedisDoor,
  statementName,
} from '../../test/support/round-trips.mjs';
import { call, ownerTokenOf, startProduct } from '../product.mjs';
import { follow } from './load.mjs';
import { settingsOf } from './settings.mjs';
import { ownerOf } from './stores.mjs';

/** What comes late, such as a job that ends, has come by then. */
const SETTLE_MS = 250;
/** The fewest of so many: every few seconds the reconciler looks through the rows. */
const TRIES = 3;
const MODEL = 'plain:20:0';

/** @param {import('./run.mjs').Run} run */
export async function statements({ stores, backend, report, modelUrl, onEnd }) {
  const databaseUrl = await stores.copyDatabase();
  const settings = settingsOf(backend, { OPENAI_MODEL: MODEL });
  /** @param {import('../product.mjs').Role} role */
  const startBehindDoors = async (role) => {
    const postgres = await openPostgresDoor(databaseUrl);
    onEnd(postgres.close);
    const redis = backend.redisUrl === null ? null : await openRedisDoor(backend.redisUrl);
    if (redis) onEnd(redis.close);
    const env = { ...settings, ...(redis && { REDIS_URL: redis.url }) };
    const product = await startProduct({
      databaseUrl: postgres.url,
      modelUrl,
      roles: [role],
      isMigrated: true,
      env,
    });
    onEnd(product.stop);
    return {
      ...product,
      take: () =>
        [...postgres.take().map(statementName), ...(redis?.take() ?? [])].filter(
          (name) => !isByItself(name, role),
        ),
    };
  };
  const api = await startBehindDoors('api');
  const worker = await startBehindDoors('worker');
  const [{ id, token, chatbot }] = stores.sessions;
  const owner = ownerTokenOf(ownerOf(chatbot));
  const session = `${api.url}/v1/sessions/${id}`;
  const rows = new pg.Client({ connectionString: databaseUrl });
  await rows.connect();
  onEnd(() => rows.end());
  /** @returns the id of the reply, once its end is published */
  const post = async () => {
    const { reply } = await call(`${session}/messages`, token, { content: 'When are you open?' });
    const isOver = async () => {
      const { rowCount } = await rows.query(
        'select 1 from replies where id = $1 and announced_at is not null',
        [reply.id],
      );
      return rowCount === 1;
    };
    while (!(await isOver())) await sleep(20);
    return reply.id;
  };
  const replyId = await post();
  const chatbots = await call(`${api.url}/v1/chatbots`, owner);
  const chatbotUrl = `${api.url}/v1/chatbots/${chatbots.data[0].id}`;
  await call(`${chatbotUrl}/sessions`, '', {});
  await post(); // scripts are loaded, and statements are prepared

  /** @param {string} route @param {() => Promise<unknown>} work */
  const count = async (route, work, of = api) => {
    /** @type {string[]} */
    let asked = [];
    for (let n = 0; n < TRIES; n++) {
      of.take();
      await work();
      await sleep(SETTLE_MS);
      const taken = of.take();
      if (n === 0 || taken.length < asked.length) asked = taken;
    }
    report.add({ name: `round trips of ${route}`, unit: '', backend: backend.name }, [asked.length]);
    for (const name of asked) console.log(`      ${name.replaceAll('\n', ' + ')}`);
  };
  await count('a post', post);
  await count('a reply of 20 tokens', post, worker);
  await count('GET messages', () => call(`${session}/messages`, token));
  await count('GET session', () => call(session, token));
  await count('GET reply', () => call(`${api.url}/v1/replies/${replyId}`, token));
  await count('GET chatbots', () => call(`${api.url}/v1/chatbots`, owner));
  await count('GET chatbot', () => call(chatbotUrl, owner));
  await count('GET sessions', () => call(`${chatbotUrl}/sessions`, owner));
  await count('POST session', () => call(`${chatbotUrl}/sessions`, '', {}));
  const watched = stores.sessions.values(); // one after the other: a second stream of a session has less to ask
  await count('opening events', async () => {
    const leave = await follow(api.url, watched.next().value);
    onEnd(async () => leave());
  });
}
