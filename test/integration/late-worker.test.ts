import { spawn } from 'node:child_process';
import { on } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { ApiClient } from '../support/api-client.js';
import { converse, newQuestion } from '../support/conversations.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

const { ReplyProcessor } =
  await importProduct<typeof import('../../src/worker/reply.processor.js')>('worker/reply.processor.js');

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({ env: { REPLY_CONCURRENCY: '7', OPENAI_BASE_URL: provider.baseUrl } });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

it('a worker whose event loop is late takes no more jobs than the one it has, until it is on time again', async () => {
  const processor = stack.workers[0]!.get(ReplyProcessor, { strict: false });
  const takes = (jobs: number) => () => processor.worker.concurrency === jobs; // throws before there is a worker
  await waitFor('the worker to take jobs', takes(7));

  const end = performance.now() + 900;
  while (performance.now() < end);

  await waitFor('the worker to be late', takes(1));
  await waitFor('the worker to be on time', takes(7));
});

it('one that was late takes jobs again as soon as it is on time, while those that it has go on', async () => {
  const processor = stack.workers[0]!.get(ReplyProcessor, { strict: false });
  const ask = async (model: string): Promise<{ question: string; guest: ApiClient; replyId: string }> => {
    const { guest, session } = await converse(stack, model);
    const question = newQuestion();
    const { reply } = await guest.postMessage(session.id, question);
    return { question, guest, replyId: reply.id };
  };
  const held = [await ask('held'), await ask('held')];
  for (const { question } of held) await provider.callAbout(question);

  const end = performance.now() + 900;
  while (performance.now() < end);
  await waitFor('the worker to be late', () => processor.worker.concurrency === 1);
  // The first is the one that the worker was waiting for already.
  held.push(await ask('held'));
  const last = await ask('ok');

  expect(await last.guest.finalReply(last.replyId)).toMatchObject({ status: 'completed' });
  for (const { question, guest, replyId } of held) {
    // It has waited for none of them to end.
    expect((await guest.get(`/v1/replies/${replyId}`)).body).toMatchObject({
      status: 'in_progress',
      attempt: 1,
    });
    (await provider.callAbout(question)).release();
  }
});

it('a process that was stopped for a while is not taken for one that is late', async () => {
  const module = new URL('../../dist/src/worker/loop-watch.js', import.meta.url).href;
  const script = `
    import { LoopWatch } from '${module}';
    new LoopWatch((isLate) => console.log(isLate ? 'late' : 'on time'));
    process.stdin.on('data', (ms) => {
      for (const end = performance.now() + Number(ms); performance.now() < end;);
      setTimeout(() => console.log('done'), 300);
    });
    setTimeout(() => console.log('begun'), 300);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  try {
    const lines = on(createInterface(child.stdout), 'line')[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => (await lines.next()).value?.[0];
    expect(await next()).toBe('begun');

    child.kill('SIGSTOP');
    await sleep(1_500);
    child.kill('SIGCONT');
    child.stdin.write('0');
    expect(await next()).toBe('done');

    child.stdin.write('1500');
    expect([await next(), await next()]).toEqual(['late', 'done']);
  } finally {
    child.kill('SIGKILL');
  }
});
