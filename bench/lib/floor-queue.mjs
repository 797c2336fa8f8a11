// BullMQ as it comes, on either store.
import { createPostgresBackend, createRedisBackend, withBackend } from 'bullmq';

const NAME = 'floor';
const CONNECTIONS = 4;

/** @typedef {{ databaseUrl: string, redisUrl: string | null }} StoreUrls */

/** @param {StoreUrls} urls */
function classesOf({ databaseUrl, redisUrl }) {
  const options =
    redisUrl === null
      ? { connection: { connectionString: databaseUrl, max: CONNECTIONS } }
      : {
          connection: { url: redisUrl, maxRetriesPerRequest: null },
          prefix: new URL(databaseUrl).pathname.slice(1),
        };
  const factory = /** @type {any} */ (redisUrl === null ? createPostgresBackend : createRedisBackend);
  return { ...withBackend(factory), options: /** @type {any} */ (options) };
}

/** @param {StoreUrls} urls */
export function openQueue(urls) {
  const { Queue, options } = classesOf(urls);
  return new Queue(NAME, {
    ...options,
    defaultJobOptions: { removeOnComplete: true },
  });
}

/** @param {StoreUrls} urls @param {number} concurrency @param {(ids: any) => Promise<void>} work */
export function openWorker(urls, concurrency, work) {
  const { Worker, options } = classesOf(urls);
  const worker = new Worker(NAME, /** @param {{ data: any }} job */ ({ data }) => work(data), {
    ...options,
    concurrency,
  });
  worker.on('error', (error) => console.error(error));
  return worker;
}
