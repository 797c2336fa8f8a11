// What replies are compared with: BullMQ and pg, and a model that is asked by a bare HTTP call or by the `openai` package.
import pg from 'pg';
import { askBare, askByPackage } from './floor-calls.mjs';
import { openWorker } from './floor-queue.mjs';
import { claim, readHistory, storeAnswer } from './floor-rows.mjs';
import { input, ready } from './program.mjs';

const { modelUrl, model, concurrency, ...urls } = input();
const pool = new pg.Pool({ connectionString: urls.databaseUrl, max: 10 });
let ask = askBare;

const worker = openWorker(urls, concurrency, async (ids) => {
  const { rowCount } = await claim(pool, ids.replyId);
  if (rowCount === 0) return;
  const history = await readHistory(pool, ids.sessionId);
  const turns = history.map(({ sender, content }) => ({
    role: sender === 'ai' ? 'assistant' : 'user',
    content,
  }));
  await storeAnswer(pool, ids, await ask(modelUrl, model, turns));
});
await worker.waitUntilReady();
ready({}, ({ isByPackage }) => {
  ask = isByPackage ? askByPackage : askBare;
  return {};
});
