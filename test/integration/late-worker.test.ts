import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, it } from '@jest/globals';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const { ReplyProcessor } =
  await importProduct<typeof import('../../src/worker/reply.processor.js')>('worker/reply.processor.js');

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({ apis: 0, env: { REPLY_CONCURRENCY: '7' } });
});
afterAll(() => stack.stop());

it('a worker whose event loop is late takes no more jobs than the one it has, until it is on time again', async () => {
  const processor = stack.workers[0]!.get(ReplyProcessor, { strict: false });
  const takes = (jobs: number) => () => processor.worker.concurrency === jobs; // throws before there is a worker
  await waitFor('the worker to take jobs', takes(7));

  await sleep(100); // delays are measured from one turn to the next, so there has to be one

  const end = performance.now() + 900;
  while (performance.now() < end);

  await waitFor('the worker to be late', takes(1));
  await waitFor('the worker to be on time', takes(7));
});
