import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { CLIENTS } from './clients.js';
import { FAULTS as ALL_FAULTS } from './faults.js';
import type { Host } from './lib/host.js';
import { type Outcome, playRound } from './lib/round.js';
import { Stage } from './lib/stage.js';
import { shownTable, showTable, toTable, wordsOf } from './lib/table.js';

/**
 * Every client through every fault: in the end the right answer stands once on its screen and in the session, the model was
 * called no more often than something was lost, and at no moment did a text stand there that was not the answer's.
 */

const ROUND_MS = 150_000;
const FAULTS = ALL_FAULTS.filter(({ onRedis }) => onRedis || globalThis.BACKEND !== 'redis');

let browser: Browser;
let stage: Stage;
const hosts: Host[] = [];
beforeAll(async () => {
  [browser, stage] = await Promise.all([startBrowser(), Stage.start(globalThis.BACKEND ?? 'postgres')]);
  for (const client of CLIENTS) hosts.push(await client.host(browser));
}, ROUND_MS);
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.close()));
  await browser?.close();
  await stage?.close();
});

const outcomes = new Map<string, Map<string, PromiseSettledResult<Outcome>>>();

describe.each(FAULTS)('after this fault: $name', (fault) => {
  beforeAll(async () => {
    const clients = CLIENTS.map((client, index) => ({ ...client, opened: hosts[index]! }));
    outcomes.set(fault.name, await playRound(stage, fault, clients));
  }, ROUND_MS);

  it.each(CLIENTS)('$name comes to the right answer, once', ({ name }) => {
    const outcome = outcomes.get(fault.name)?.get(name);
    if (outcome?.status === 'rejected') throw outcome.reason;
    expect(outcome?.status).toBe('fulfilled');
  });
});

it('took what client/README.md says', () => {
  const names = FAULTS.map(({ name }) => name);
  const rows = CLIENTS.map(({ name }) => [
    name,
    ...names.map((fault) => {
      const outcome = outcomes.get(fault)?.get(name);
      return outcome?.status === 'fulfilled' ? wordsOf(outcome.value) : 'FAILED';
    }),
  ]);
  const table = toTable([['', ...names], ...rows]);
  if (process.env['UPDATE'] === '1' && FAULTS.length === ALL_FAULTS.length && !table.includes('FAILED')) {
    showTable(table);
  }
  expect(table).toBe(shownTable(names));
});
