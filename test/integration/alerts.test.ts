import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import type { ApiClient, Json } from '../support/api-client.js';
import { alertTests, deployFile } from '../support/monitoring-files.js';
import { describeWithPromtool, promtoolOn } from '../support/promtool.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { scrape } from '../support/scrape.js';
import { Stack } from '../support/stack.js';
import { waitFor } from '../support/wait.js';

/**
 * The alerts, on what running processes really told: their scrapes become the input of promtool. What takes minutes
 * is stretched: a number that was recorded stays, and an age grows, as it would have.
 */

jest.setTimeout(120_000);

const INTERVAL_SECONDS = 30;
/** For how long each recording lasts. */
const SAMPLES = 20;
const AGE = 'assistly_reply_oldest_due_age_seconds';

let provider: RawProvider;
let stack: Stack;
/** The processes that run, by their jobs. */
let targets: { job: string; url: string }[];
beforeEach(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    workers: 0,
    env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok' },
  });
  targets = [{ job: 'assistly-api', url: stack.apis[0]!.url }];
});
afterEach(async () => {
  await stack.stop();
  await provider.close();
});

async function startWorker(): Promise<void> {
  const worker = await stack.addWorker();
  await worker.listen(0, '127.0.0.1');
  const url = (await worker.getUrl()).replace('[::1]', '127.0.0.1');
  targets.push({ job: 'assistly-worker', url });
  await waitFor('the worker to be seen', async () =>
    (await Promise.all(targets.map((target) => scrape(target.url)))).every(
      (got) => got.value('assistly_workers') === 1,
    ),
  );
}

async function openSession(model = 'ok'): Promise<{ session: Json; guest: ApiClient; cursor: string }> {
  const chatbot = await stack.owner().createChatbot({ name: 'Bakery', model });
  return stack.client().openSession(chatbot.id);
}

async function ask(model?: string): Promise<void> {
  const { session, guest } = await openSession(model);
  const { reply } = await guest.postMessage(session.id, `Hello ${session.id}`);
  await guest.finalReply(reply.id);
}

/** What every process tells now, by the series that Prometheus makes of it. */
async function record(): Promise<Map<string, number>> {
  const recorded = new Map<string, number>();
  for (const { job, url } of targets) {
    for (const [series, value] of (await scrape(url)).series) {
      const target = `job="${job}",instance="${new URL(url).host}"`;
      recorded.set(
        series.endsWith('}') ? `${series.slice(0, -1)},${target}}` : `${series}{${target}}`,
        value,
      );
    }
  }
  return recorded;
}

/** Checks which alerts fire at the end of these recordings, each of which lasts for ten minutes; no others may. */
function expectAlerts(recordings: Map<string, number>[], alerts: string[]): void {
  const names = new Set(recordings.flatMap((recording) => [...recording.keys()]));
  const input_series = [...names].map((series) => ({
    series,
    values: recordings
      .map((recording) => {
        const value = recording.get(series);
        if (value === undefined || Number.isNaN(value)) return `_x${SAMPLES}`;
        const growth = series.startsWith(AGE) && value > 0 ? INTERVAL_SECONDS : 0;
        return `${value}+${growth}x${SAMPLES - 1}`;
      })
      .join(' '),
  }));
  const test = {
    interval: `${INTERVAL_SECONDS}s`,
    input_series,
    promql_expr_test: [
      {
        expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
        eval_time: `${(recordings.length * SAMPLES - 1) * INTERVAL_SECONDS}s`,
        exp_samples: alerts.map((name) => ({ labels: `{alertname="${name}"}`, value: 1 })),
      },
    ],
  };
  const file = {
    rule_files: [deployFile('prometheus-alerts.yml')],
    evaluation_interval: `${INTERVAL_SECONDS}s`,
    tests: [test],
  };
  // It compares, and says what it got where that is something else.
  expect(promtoolOn(['test', 'rules'], { 'recorded.yml': file }, 'recorded.yml')).toContain('SUCCESS');
}

describeWithPromtool('the alerts, on recorded metrics', () => {
  it('are silent while replies are answered', async () => {
    await startWorker();
    const before = await record();
    for (let i = 0; i < 8; i++) await ask();

    expectAlerts([before, await record()], []);
  });

  it('fire where a message waits and there is no worker, until there is one', async () => {
    const { session, guest } = await openSession();
    const { reply } = await guest.postMessage(session.id, 'Anybody?');
    await waitFor('the reply to wait', async () => ((await scrape(targets[0]!.url)).value(AGE) ?? 0) > 0);
    const waiting = await record();

    expectAlerts([waiting], ['AssistlyNoWorker', 'AssistlyRepliesWait']);

    await startWorker();
    await guest.finalReply(reply.id);
    await waitFor('nothing to wait', async () =>
      (await Promise.all(targets.map(({ url }) => scrape(url)))).every((got) => got.value(AGE) === 0),
    );
    expectAlerts([waiting, await record()], []);
  });

  it('fire where the model refuses what it is asked', async () => {
    await startWorker();
    for (let i = 0; i < 4; i++) await ask();
    const before = await record();
    for (let i = 0; i < 6; i++) await ask('status:401');

    expectAlerts([before, await record()], ['AssistlyRepliesFail']);
  });

  it('fire where nothing is recorded at all', () => {
    expectAlerts([new Map([['up{job="assistly-api"}', 0]])], ['AssistlyUnobserved']);
  });

  it('are tested in deploy/ on series as processes show them', async () => {
    await startWorker();
    const { session, guest, cursor } = await openSession('pace:50');
    const stream = guest.follow(session.id, { after: cursor });
    const { reply } = await guest.postMessage(session.id, 'Hello?');
    await stream.next('reply.completed', reply.id);
    await stream.close();
    await guest.messages(session.id);
    await stack.database.query('alter table messages rename to messages_elsewhere');
    const refused = await guest.post(`/v1/sessions/${session.id}/messages`, { content: 'Hello?' });
    await stack.database.query('alter table messages_elsewhere rename to messages');
    expect(refused.status).toBe(500);
    const shown = [...(await record()).keys()].map(shapeOf);

    const tested = alertTests.tests.flatMap((test: Json) =>
      test.input_series.map(({ series }: Json) => series),
    );
    expect(tested.length).toBeGreaterThan(20);
    for (const series of tested) expect(shown).toContain(shapeOf(series));
  });
});

/** A series as its name and labels, in order; targets differ, and so do their values. */
function shapeOf(series: string): string {
  const [name = '', labels = ''] = series.split(/[{}]/);
  const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, label = '', value = '']) =>
    ['job', 'instance'].includes(label) ? label : `${label}=${value}`,
  );
  return `${name} ${pairs.sort().join(' ')}`;
}
