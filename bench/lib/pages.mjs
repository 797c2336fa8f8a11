// A page of a hundred of what a list has more of, one request after the other, beside one hand-written SELECT through a bare server.
import { Pool } from 'undici';
import { ownerTokenOf, startProduct } from '../product.mjs';
import { startProgram } from './program.mjs';
import { alternate } from './run.mjs';
import { settingsOf } from './settings.mjs';
import { median } from './statistics.mjs';
import { OWNER_OF_PAGES } from './stores.mjs';

const REQUESTS = 100;

/** @param {import('./run.mjs').Run} run */
export async function pages({ stores, backend, report, rounds, modelUrl, onEnd }) {
  const databaseUrl = await stores.copyDatabase();
  const product = await startProduct({
    databaseUrl,
    modelUrl,
    roles: ['api'],
    isMigrated: true,
    env: settingsOf(backend),
  });
  onEnd(product.stop);
  const floor = await startProgram('floor-api.mjs', { databaseUrl, redisUrl: backend.redisUrl });
  onEnd(floor.stop);
  const { chatbotId, session } = stores.pages;
  const owner = ownerTokenOf(OWNER_OF_PAGES);
  const kinds = [
    { kind: 'messages', path: `/v1/sessions/${session.id}/messages`, token: session.token },
    { kind: 'sessions', path: `/v1/chatbots/${chatbotId}/sessions`, token: owner },
    {
      kind: 'chatbots',
      path: '/v1/chatbots',
      token: owner,
      floorPath: `/v1/owners/${OWNER_OF_PAGES}/chatbots`,
    },
  ];
  for (const { kind, path, token, floorPath = path } of kinds) {
    const headers = { authorization: `Bearer ${token}` };
    const ofProduct = () => timesOf(product.url, `${path}?limit=100`, headers);
    const ofFloor = () => timesOf(floor.started.url, floorPath, headers);
    await Promise.all([ofProduct(), ofFloor()]); // compiled by then
    const all = await alternate(rounds, { product: ofProduct, floor: ofFloor });
    report.add({ name: `a page of 100 ${kind}`, unit: 'ms', backend: null }, all.product, all.floor);
  }
}

/** @param {string} url @param {string} path @param {Record<string, string>} headers @returns the median, in ms */
async function timesOf(url, path, headers) {
  const pool = new Pool(url, { connections: 1 });
  const times = [];
  for (let n = 0; n < REQUESTS; n++) {
    const begun = performance.now();
    const { statusCode, body } = await pool.request({ path, method: 'GET', headers });
    const { data } = /** @type {any} */ (await body.json());
    times.push(performance.now() - begun);
    if (statusCode !== 200 || data.length !== 100)
      throw new Error(`${path}: ${statusCode}, ${data?.length} rows`);
  }
  await pool.close();
  return median(times);
}
