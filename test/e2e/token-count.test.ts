import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { board, OPERATOR } from '../support/queue-board.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/** The job that counts the tokens of owners' texts, on either store of the queue. */

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    env: { BULL_BOARD_USER: OPERATOR.user, BULL_BOARD_PASSWORD: OPERATOR.password },
    timings: { reconcileIntervalMs: 100 },
  });
});
afterAll(() => stack.stop());

const create = (content: string): Promise<Json> =>
  stack.owner().createChatbot({ name: 'Bakery', characteristics: [content] });

const counted = (chatbot: Json): Promise<unknown> =>
  waitFor('the tokens to be counted', async () => {
    const { body } = await stack.owner().get(`/v1/chatbots/${chatbot.id}`);
    return body.promptTokens < chatbot.promptTokens;
  });

/** How many jobs of counting the queue holds. */
async function jobs(): Promise<number> {
  const { body } = await board(stack, '/queues?activeQueue=replies&status=latest&page=1&jobsPerPage=100');
  return body.queues[0].jobs.filter(({ name }: Json) => name === 'count_tokens').length;
}

it('waits for a worker, once for all chatbots, and is made anew for each text that comes later', async () => {
  const chatbots = [await create('We sell bread.'), await create('We sell cake.')];
  await waitFor('the job', async () => (await jobs()) > 0);
  await create('We sell rolls.'); // and several rounds of the reconciler
  await create('We sell buns.');
  await sleep(500);
  expect(await jobs()).toBe(1);

  await stack.addWorker();
  for (const chatbot of chatbots) await counted(chatbot);
  await waitFor('the job to go', async () => (await jobs()) === 0);

  await counted(await create('We sell rolls.'));
  await waitFor('the job to go', async () => (await jobs()) === 0);
});
