import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { startBrowser } from '../support/browser.js';
import { answerTo } from '../support/raw-provider.js';
import { waitFor } from '../support/wait.js';
import { CLIENTS } from './clients.js';
import { textOf } from './faults.js';
import type { Host, OpenClient } from './lib/host.js';
import { Stage } from './lib/stage.js';

/** What people do with a chat of the AI SDK where nothing breaks: ask for another answer, and read what went wrong. */

const STARTING_MS = 150_000;
/** The attempts of a reply, and a busy machine. */
const PATIENCE = { timeoutMs: 30_000 };
/** One or more whole sentences, and nothing that is for machines. */
const A_SENTENCE = /^[A-Z][^{}<>"]*\.$/;

const clients = CLIENTS.filter(({ ways }) => ways.includes('resume'));

let browser: Browser;
let stage: Stage;
const hosts = new Map<string, Host>();
beforeAll(async () => {
  [browser, stage] = await Promise.all([startBrowser(), Stage.start(globalThis.BACKEND ?? 'postgres')]);
  for (const client of clients) hosts.set(client.name, await client.host(browser));
}, STARTING_MS);
afterAll(async () => {
  await Promise.all([...hosts.values()].map((host) => host.close()));
  await browser?.close();
  await stage?.close();
});

const opened: OpenClient[] = [];
afterEach(() => Promise.all(opened.splice(0).map((client) => client.close())));

async function converse(
  name: string,
  model: string,
): Promise<{ client: OpenClient; sessionId: string; question: string }> {
  const chatbot = await stage.createChatbot(model);
  const session = await stage.openSession(chatbot.chatbotId);
  const client = await hosts.get(name)!.open({ api: stage.gate.url, ...chatbot, session });
  opened.push(client);
  await waitFor('the client to be ready', () => client.screen.status === 'ready');
  return { client, sessionId: session.id, question: `Question ${session.id}?` };
}

const callsAbout = (question: string): number =>
  stage.provider.calls.filter((call) => call.question === question).length;

async function haveAnswer(client: OpenClient, question: string): Promise<void> {
  const isThere = (): boolean =>
    client.screen.status === 'ready' && textOf(client.screen) === answerTo(question);
  await waitFor('the answer', isThere, PATIENCE);
}

/** Of any screen: a stream that is asked for as the page opens may end after the refusal, and some clients forget it then. */
const untilRefused = (client: OpenClient): Promise<string> =>
  waitFor(
    'the error',
    () => client.screens.find(({ status, error }) => status === 'error' && error !== null)?.error,
    PATIENCE,
  );

describe.each(clients)('$name', ({ name }) => {
  it('regenerates a whole answer: the new one stands in the place of the old', async () => {
    const { client, sessionId, question } = await converse(name, 'ok');
    await client.send(question);
    await haveAnswer(client, question);
    await client.press('regenerate');
    await waitFor('the model to be called again', () => callsAbout(question) === 2, PATIENCE);
    await haveAnswer(client, question);
    const shown = [
      { role: 'user', text: question },
      { role: 'assistant', text: answerTo(question) },
    ];
    expect(client.screen.messages).toEqual(shown);

    const [, old, current] = await waitFor('the new answer', async () => {
      const messages = await stage.owner().messages(sessionId);
      return messages.length === 3 ? messages : null;
    });
    expect(old).toMatchObject({ sender: 'ai', supersededBy: current!.replyId });
    expect(current).toMatchObject({ sender: 'ai', supersededBy: null });
    await client.reload();
    await haveAnswer(client, question);
    expect(client.screen.messages).toEqual(shown);

    const next = `${question} And then?`;
    await client.send(next);
    await haveAnswer(client, next);
    const { body } = stage.provider.calls.find((call) => call.question === next)!;
    const told = (body['messages'] as { content: string }[]).map(({ content }) => content);
    expect(told.slice(1)).toEqual([question, answerTo(question), next]); // the old one is told no more
  });

  it('says in a sentence that an answer failed, and tries again', async () => {
    const { client, sessionId, question } = await converse(name, 'fail:400:1');
    await client.send(question);
    expect(await untilRefused(client)).toMatch(A_SENTENCE);
    expect(client.screen.messages.filter(({ text }) => text !== '')).toEqual([
      { role: 'user', text: question },
    ]);

    await client.press('regenerate');
    await haveAnswer(client, question);
    expect(client.screen.error).toBeNull();
    const stored = await stage.owner().messages(sessionId);
    expect(stored.map(({ content }) => content)).toEqual([question, answerTo(question)]);
  });

  it('says in a sentence why a message was refused, and takes the next', async () => {
    const { client, sessionId, question } = await converse(name, 'ok');
    await client.send('x'.repeat(8_001));
    expect(await untilRefused(client)).toMatch(A_SENTENCE);

    await client.send(question);
    await haveAnswer(client, question);
    expect(client.screen.error).toBeNull();
    const stored = await stage.owner().messages(sessionId);
    expect(stored.map(({ content }) => content)).toEqual([question, answerTo(question)]);
  });
});
