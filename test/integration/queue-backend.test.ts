import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { withBackend } from 'bullmq';
import { loadConfig, Role } from '../../src/config/env.js';
import { createQueueBackend, type QueueBackend } from '../../src/queue/queue-backend.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** BullMQ on PostgreSQL keeps the outcome of its first connection: a failure must not stay one for ever. */

let database: TestDatabase;
let proxy: TcpProxy;
let backend: QueueBackend;
beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startTcpProxy(database.url);
  backend = createQueueBackend(
    loadConfig(Role.Worker, { NODE_ENV: 'test', DATABASE_URL: proxy.url, OPENAI_API_KEY: 'sk-none' }),
  );
});
afterAll(async () => {
  await proxy.close();
  await database.drop();
});

it('a queue whose first connection failed works when its database is back', async () => {
  const queue = new (withBackend(backend.factory).Queue)('first', {
    connection: backend.producerConnection,
  });
  queue.on('error', () => undefined);
  proxy.refuse(true);
  await expect(queue.add('job', {})).rejects.toThrow();

  proxy.refuse(false);

  await waitFor('a job to be added', async () => Boolean(await queue.add('job', {})));
  await queue.close();
});

it('a connection that breaks in its first statement ends no process', async () => {
  const queue = new (withBackend(backend.factory).Queue)('third', {
    connection: backend.producerConnection,
  });
  queue.on('error', () => undefined);
  const added = queue.add('job', {});
  await proxy.holdAt('MAX(version)'); // of the tables, which BullMQ asks for on a connection that it has taken
  proxy.cut();

  await expect(added).rejects.toThrow();

  proxy.recover();
  await waitFor('a job to be added', async () => Boolean(await queue.add('job', {})));
  await queue.close();
});

it('a worker whose first connection failed takes jobs when its database is back, and starves nobody meanwhile', async () => {
  const { Queue: BackedQueue, Worker: BackedWorker } = withBackend(backend.factory);
  const queue = new BackedQueue('second', { connection: { connectionString: database.url } });
  await queue.add('job', {});
  proxy.refuse(true);
  const errors: Error[] = [];
  let done = 0;
  const worker = new BackedWorker('second', async () => void done++, {
    connection: backend.workerConnection,
  });
  worker.on('error', (error) => errors.push(error));
  // A timer fires at all only where the worker lets go of the loop.
  await waitFor('the first failures', () => errors.length >= 2, { timeoutMs: 20_000 });
  expect(errors.length).toBeLessThan(20);

  proxy.refuse(false);

  await waitFor('the job to be done', () => done === 1);
  await worker.close();
  await queue.close();
});
