import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { type Chat, type ChatOptions, type ChatStorage, createChat } from 'assistly-client';
import { type AssistlyChunk, assistlyTransport } from 'assistly-client/ai';
import { startBalancer } from '../support/balancer.js';
import { checkedFetch } from '../support/contract.js';
import { newQuestion } from '../support/conversations.js';
import { readText } from '../support/deploy-files.mjs';
import { answerTo, type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { waitFor } from '../support/wait.js';

/** The client package, spoken to as a page does, over every fault that a network has. */

let provider: RawProvider;
let stack: Stack;
let proxy: TcpProxy;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: { OPENAI_BASE_URL: provider.baseUrl, DRAIN_TIMEOUT_MS: '0' },
    timings: { sseKeepAliveIntervalMs: 100 },
  });
  proxy = await startTcpProxy(stack.apis[0]!.url);
});
afterAll(async () => {
  await proxy.close();
  await stack.stop();
  await provider.close();
});

const open: Chat[] = [];
afterEach(() => {
  proxy.refuse(false);
  proxy.recover();
  for (const chat of open.splice(0)) chat.close();
});

/** What it answers is held against openapi.json. */
const clientFetch: typeof fetch = (input, init) =>
  checkedFetch(input instanceof Request ? input.url : input, init);

const IMPATIENT = { backoffMinMs: 20, backoffMaxMs: 200 };

const newChatbot = async (model = 'ok', settings: object = {}): Promise<string> =>
  (await stack.owner().createChatbot({ name: 'Bakery', greeting: 'Hello {name}!', model, ...settings })).id;

/** A chat by way of the proxy, and everything that it has ever shown of its reply. */
function chatWith(
  chatbotId: string,
  options: Partial<ChatOptions> = {},
): { chat: Chat; shown: string[]; delays: string[] } {
  const chat = createChat({
    baseUrl: proxy.url,
    chatbotId,
    fetch: clientFetch,
    timings: IMPATIENT,
    ...options,
  });
  open.push(chat);
  const shown: string[] = [];
  const delays: string[] = [];
  chat.subscribe(() => {
    const text = chat.reply?.text ?? '';
    if (text !== '' && text !== shown.at(-1)) shown.push(text);
    const reason = chat.reply?.delay?.reason;
    if (reason && reason !== delays.at(-1)) delays.push(reason);
  });
  return { chat, shown, delays };
}

function newStorage(): ChatStorage {
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

/** The rows of a message, by its text. */
const stored = (content: string): Promise<{ session_id: string }[]> =>
  stack.database.query<{ session_id: string }>(
    `select chat_session_id as session_id from messages where content = '${content}'`,
  );

/** Makes the tokens of the session good no more in which this was said. */
async function revokeTokens(content: string): Promise<void> {
  const [message] = await stored(content);
  await stack.database.query(`delete from session_tokens where session_id = '${message!.session_id}'`);
}

const untilOpen = (chat: Chat): Promise<unknown> =>
  waitFor('the chat to be open', () => chat.status === 'open');
const untilReply = (chat: Chat, status: string): Promise<unknown> =>
  waitFor(`the reply to be ${status}`, () => chat.reply?.status === status && chat.reply.text === '');
const untilText = (chat: Chat): Promise<unknown> => waitFor('some text', () => chat.reply?.text);
const said = (chat: Chat): string[] => chat.messages.map(({ content }) => content);
/** All that was shown grew to the whole answer, letter by letter, and nothing stood there twice. */
function expectGrown(shown: readonly string[], answer: string): void {
  expect(shown.length).toBeGreaterThan(0);
  for (const text of shown) expect(answer.startsWith(text)).toBe(true);
  expect(shown).toEqual(shown.toSorted((a, b) => a.length - b.length));
}

describe('a chat', () => {
  it('begins with the greeting, sends a message, and shows the answer as it is written', async () => {
    const { chat, shown } = chatWith(await newChatbot('pace:10'), { guest: { name: 'Ada' } });
    await untilOpen(chat);
    expect(said(chat)).toEqual(['Hello Ada!']);
    const question = newQuestion();

    const key = chat.send(question);

    expect(chat.messages.at(-1)).toMatchObject({ key, content: question, state: 'sending', id: null });
    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual(['Hello Ada!', question, answerTo(question)]);
    expect(chat.messages[1]).toMatchObject({ key, state: 'sent', id: expect.any(String), problem: null });
    expect(chat.error).toBeNull();
    expectGrown(shown, answerTo(question));
    expect(shown.length).toBeGreaterThan(2);
  });

  it('keeps what has not changed: the snapshot, and each message in it', async () => {
    const { chat } = chatWith(await newChatbot());
    await untilOpen(chat);
    const before = chat.getSnapshot();
    const question = newQuestion();

    chat.send(question);
    await untilReply(chat, 'completed');

    expect(chat.getSnapshot()).toBe(chat.getSnapshot());
    expect(chat.getSnapshot()).not.toBe(before);
    expect(chat.messages[0]).toBe(before.messages[0]);
  });

  it('sends what is written in a burst in the order in which it was written', async () => {
    const { chat } = chatWith(await newChatbot());
    const questions = [newQuestion(), newQuestion(), newQuestion()];

    for (const question of questions) chat.send(question);

    await waitFor(
      'all to be sent',
      () => chat.messages.filter(({ state, sender }) => sender === 'user' && state === 'sent').length === 3,
    );
    await untilReply(chat, 'completed');
    expect(said(chat).filter((text) => questions.includes(text))).toEqual(questions);
  });

  it('stops the reply: the text so far stays, and it can be asked for again', async () => {
    const { chat } = chatWith(await newChatbot('held'));
    const question = newQuestion();
    chat.send(question);
    await untilText(chat);

    await chat.stop();

    await untilReply(chat, 'cancelled');
    const call = await provider.callAbout(question);
    expect(await call.ended).toBe('client');
    expect(chat.messages.at(-1)).toMatchObject({ sender: 'ai', replyId: chat.reply!.id });
    expect(answerTo(question).startsWith(chat.messages.at(-1)!.content)).toBe(true);
    const stopped = chat.reply!.id;

    await chat.retry();

    expect(chat.reply).toMatchObject({ retryOf: stopped });
    await untilReply(chat, 'completed');
    expect(said(chat).at(-1)).toBe(answerTo(question));
  });

  it('stops the reply of a message that is still on its way', async () => {
    const { chat } = chatWith(await newChatbot('held'));
    await untilOpen(chat);
    const question = newQuestion();
    const held = proxy.holdAt(question);
    chat.send(question);
    await held;

    await chat.stop();
    proxy.recover();

    await untilReply(chat, 'cancelled');
  });

  it('retries a reply that failed, and says why it had', async () => {
    const { chat } = chatWith(await newChatbot('status:401'));
    chat.send(newQuestion());
    await untilReply(chat, 'failed');
    expect(chat.reply!.error).toMatchObject({ code: 'provider_rejected', detail: expect.any(String) });
    const failed = chat.reply!.id;

    await chat.retry();

    expect(chat.reply).toMatchObject({ retryOf: failed });
    await untilReply(chat, 'failed');
  });

  it('asks for another answer, which takes the place of the first when it is complete', async () => {
    const { chat } = chatWith(await newChatbot());
    const question = newQuestion();
    chat.send(question);
    await untilReply(chat, 'completed');
    const [, , first] = chat.messages;

    await chat.regenerate();

    expect(chat.reply).toMatchObject({ retryOf: first!.replyId });
    await waitFor('the first answer to go', () => chat.messages[2]!.id !== first!.id);
    expect(said(chat)).toEqual(['Hello !', question, answerTo(question)]);
  });

  it('drops the text of an attempt that was replaced, and tells of the pause', async () => {
    const { chat, shown, delays } = chatWith(await newChatbot('trunc-once'));
    await untilOpen(chat);
    const question = newQuestion();

    chat.send(question);

    await untilReply(chat, 'completed');
    expect(said(chat).at(-1)).toBe(answerTo(question));
    for (const text of shown) expect(answerTo(question).startsWith(text)).toBe(true);
    expect(delays).toEqual(['provider_unavailable']);
    expect(chat.reply!.delay).toBeNull();
  });

  it('loads what came before the newest fifty', async () => {
    const storage = newStorage();
    const chatbotId = await newChatbot();
    const first = chatWith(chatbotId, { storage });
    const question = newQuestion();
    first.chat.send(question);
    await untilReply(first.chat, 'completed');
    first.chat.close();
    const [message] = await stored(question);
    await stack.database.query(
      `insert into messages (id, chat_session_id, sequence, sender, content)
         select gen_random_uuid(), '${message!.session_id}', n, 'user', 'Line ' || n from generate_series(4, 230) n`,
    );

    const { chat } = chatWith(chatbotId, { storage });

    await waitFor('the snapshot', () => chat.messages.length === 50);
    expect(chat.hasEarlier).toBe(true);
    await chat.loadEarlier();
    expect(chat.messages).toHaveLength(100);
    await chat.loadEarlier();
    await chat.loadEarlier();
    expect(said(chat)).toEqual([
      'Hello !',
      question,
      answerTo(question),
      ...Array.from({ length: 227 }, (_, index) => `Line ${index + 4}`),
    ]);
    expect(chat.hasEarlier).toBe(false);
  });
});

describe('the example of the README', () => {
  it('shows the answer', async () => {
    const chatbotId = await newChatbot();
    const example = /```js\n(import \{ createChat \}[^]*?)```/.exec(readText('client/README.md'))![1]!;
    const program = example
      .replace(/^import .*$/m, '')
      .replace('http://localhost:3000', stack.apis[0]!.url)
      .replace('<chatbot id>', chatbotId);
    const logged: unknown[][] = [];

    // oxlint-disable-next-line typescript/no-implied-eval -- a program from our own document
    const run = new Function('createChat', 'console', `${program}; return chat;`);
    const chat = run((options: ChatOptions) => createChat({ ...options, fetch: clientFetch }), {
      log: (...line: unknown[]) => logged.push(line),
    }) as Chat;
    open.push(chat);

    const question = /send\('(.*)'\)/.exec(example)![1]!;
    await waitFor('the answer', () =>
      JSON.stringify(logged.at(-1))?.includes(JSON.stringify(answerTo(question))),
    );
  });
});

describe('over a reload', () => {
  it('shows the same again, and goes on with the answer that is being written', async () => {
    const storage = newStorage();
    const chatbotId = await newChatbot('held');
    const question = newQuestion();
    const first = chatWith(chatbotId, { storage });
    first.chat.send(question);
    await untilText(first.chat);
    const before = said(first.chat);
    first.chat.close();

    const { chat, shown } = chatWith(chatbotId, { storage });

    await untilText(chat);
    expect(said(chat)).toEqual(before);
    (await provider.callAbout(question)).release();
    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual([...before, answerTo(question)]);
    expectGrown(shown, answerTo(question));
  });

  it('goes on sending what was not sent', async () => {
    const storage = newStorage();
    const chatbotId = await newChatbot();
    const first = chatWith(chatbotId, { storage });
    await untilOpen(first.chat);
    proxy.refuse(true);
    proxy.cut();
    const questions = [newQuestion(), newQuestion()];
    for (const question of questions) first.chat.send(question);
    await waitFor('the stream to be lost', () => first.chat.status === 'reconnecting');
    first.chat.close();

    const { chat } = chatWith(chatbotId, { storage });
    expect(said(chat)).toEqual(questions);
    proxy.refuse(false);

    await untilReply(chat, 'completed');
    await waitFor('all to be sent', () => chat.messages.every(({ state }) => state === 'sent'));
    expect(said(chat).filter((text) => questions.includes(text))).toEqual(questions);
  });
});

describe('over a fault', () => {
  it('goes on after its connections are cut in the middle of an answer', async () => {
    const { chat, shown } = chatWith(await newChatbot('pace:30'));
    const question = newQuestion();
    chat.send(question);

    for (const length of [5, 30, 60]) {
      await waitFor('more text', () => (chat.reply?.text.length ?? 0) > length);
      expect(proxy.cut()).toBeGreaterThan(0);
    }

    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual(['Hello !', question, answerTo(question)]);
    expectGrown(shown, answerTo(question));
  });

  it('sends a message once whose answer was lost', async () => {
    const storage = newStorage();
    const { chat } = chatWith(await newChatbot(), { storage });
    await untilOpen(chat);
    const question = newQuestion();
    const cut = proxy.cutAfter(question);

    chat.send(question);

    await cut;
    await untilReply(chat, 'completed');
    await waitFor('the message to be sent', () => chat.messages.every(({ state }) => state === 'sent'));
    expect(said(chat)).toEqual(['Hello !', question, answerTo(question)]);
    expect(await stored(question)).toHaveLength(1);
  });

  it('notices a connection that is silent, and opens another', async () => {
    const { chat, shown } = chatWith(await newChatbot('held'), {
      timings: { ...IMPATIENT, silenceMs: 1_000 },
    });
    const question = newQuestion();
    chat.send(question);
    await untilText(chat);

    proxy.abandon();
    (await provider.callAbout(question)).release();

    await untilReply(chat, 'completed');
    expect(said(chat).at(-1)).toBe(answerTo(question));
    expectGrown(shown, answerTo(question));
  });

  it('waits for the network at the beginning, and sends then', async () => {
    const chatbotId = await newChatbot();
    proxy.refuse(true);
    proxy.cut();
    const { chat } = chatWith(chatbotId);
    const question = newQuestion();
    chat.send(question);
    await waitFor('the failure to be told', () => chat.error !== null);
    expect(chat).toMatchObject({ status: 'opening', error: { code: 'network', status: 0 } });

    proxy.refuse(false);

    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual(['Hello !', question, answerTo(question)]);
    expect(chat.error).toBeNull();
  });

  it('says that a message was not sent after some time, and sends it once when asked to', async () => {
    const { chat } = chatWith(await newChatbot(), { timings: { ...IMPATIENT, giveUpMs: 200 } });
    await untilOpen(chat);
    proxy.refuse(true);
    proxy.cut();
    const key = chat.send(newQuestion());
    await waitFor('it to be given up', () => chat.messages.at(-1)!.state === 'not_sent');
    expect(chat.messages.at(-1)!.problem).toMatchObject({ code: 'network' });

    proxy.refuse(false);
    chat.resend(key);

    await untilReply(chat, 'completed');
    await waitFor('it to be sent', () => chat.messages.every(({ state }) => state === 'sent'));
    expect(chat.messages.filter(({ sender }) => sender === 'user')).toMatchObject([{ key }]);
  });

  it('says why a message was refused', async () => {
    const { chat } = chatWith(await newChatbot());
    await untilOpen(chat);

    chat.send(' ');

    await waitFor('it to be refused', () => chat.messages.at(-1)!.state === 'not_sent');
    expect(chat.messages.at(-1)!.problem).toMatchObject({ code: 'invalid_request', status: 400 });
    expect(chat.status).toBe('open');
  });
});

describe('a session that is over', () => {
  it('ends the chat when its token is good no more; the next message opens another, and all stays shown', async () => {
    const { chat } = chatWith(await newChatbot());
    const first = newQuestion();
    chat.send(first);
    await untilReply(chat, 'completed');
    await revokeTokens(first);
    proxy.cut();
    await waitFor('the end', () => chat.status === 'ended');
    expect(chat.error).toMatchObject({ code: 'unauthorized', status: 401, detail: expect.any(String) });
    const shown = said(chat);
    expect(shown).toEqual(['Hello !', first, answerTo(first)]);

    const second = newQuestion();
    chat.send(second);

    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual([...shown, 'Hello !', second, answerTo(second)]);
    expect(chat.status).toBe('open');
  });

  it('keeps a message that it could not take, and sends it with the next', async () => {
    const { chat } = chatWith(await newChatbot());
    const [first, second, third] = [newQuestion(), newQuestion(), newQuestion()];
    chat.send(first);
    await untilReply(chat, 'completed');
    await revokeTokens(first);

    chat.send(second);
    await waitFor('the end', () => chat.status === 'ended');
    expect(chat.messages.at(-1)).toMatchObject({
      content: second,
      state: 'not_sent',
      problem: { status: 401 },
    });
    chat.send(third);

    await waitFor('both to be sent', () => chat.messages.every(({ state }) => state === 'sent'));
    await untilReply(chat, 'completed');
    expect(said(chat).filter((text) => text.startsWith('Question'))).toEqual([first, second, third]);
  });

  it('ends the chat when it was deleted', async () => {
    const storage = newStorage();
    const { chat } = chatWith(await newChatbot(), { storage });
    const question = newQuestion();
    chat.send(question);
    await untilReply(chat, 'completed');
    const [message] = await stored(question);

    await stack.owner().delete(`/v1/sessions/${message!.session_id}`);

    await waitFor('the end', () => chat.status === 'ended');
    expect(chat.error).toMatchObject({ code: 'session_deleted' });
    expect(said(chat)).toContain(question);
  });

  it('is not opened where the chatbot is switched off; error says so', async () => {
    const { chat } = chatWith(await newChatbot('ok', { isEnabled: false }));

    await waitFor('the end', () => chat.status === 'ended');

    expect(chat.error).toMatchObject({ code: 'chatbot_disabled', status: 403, detail: expect.any(String) });
  });
});

describe('over the end of a stream or of an api', () => {
  it('goes on where the server ends the stream in the middle of an answer', async () => {
    const short = await Stack.start({
      env: { OPENAI_BASE_URL: provider.baseUrl },
      timings: { sseMaxAgeMs: 150 },
    });
    const chatbot = await short.owner().createChatbot({ name: 'Bakery', model: 'pace:40' });
    const { chat, shown } = chatWith(chatbot.id, { baseUrl: short.apis[0]!.url });
    const question = newQuestion();

    chat.send(question);

    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual([question, answerTo(question)]);
    expectGrown(shown, answerTo(question));
    await short.stop();
  });

  it('goes on at another api when its own stops', async () => {
    const pair = await Stack.start({
      apis: 2,
      env: { OPENAI_BASE_URL: provider.baseUrl, DRAIN_TIMEOUT_MS: '0' },
    });
    const balancer = await startBalancer(pair.apis.map(({ url }) => url));
    const chatbot = await pair.owner().createChatbot({ name: 'Bakery', model: 'held' });
    const { chat, shown } = chatWith(chatbot.id, { baseUrl: balancer.url });
    const question = newQuestion();
    chat.send(question);
    await untilText(chat);

    await pair.apis[0]!.app.close();
    balancer.targets.shift();
    (await provider.callAbout(question)).release();

    await untilReply(chat, 'completed');
    expect(said(chat)).toEqual([question, answerTo(question)]);
    expectGrown(shown, answerTo(question));
    chat.close();
    pair.apis.shift();
    await balancer.close();
    await pair.stop();
  });
});

describe('the transport for the AI SDK', () => {
  const messageOf = (text: string) => ({ id: randomUUID(), role: 'user', parts: [{ type: 'text', text }] });
  const send = {
    trigger: 'submit-message' as const,
    chatId: 'chat',
    messageId: undefined,
    abortSignal: undefined,
  };

  async function transportOf(model: string) {
    const chatbotId = await newChatbot(model);
    const { session, token } = await stack.client().openSession(chatbotId);
    const options = { baseUrl: stack.apis[0]!.url, sessionId: session.id, token, fetch: clientFetch };
    return assistlyTransport({ ...options, protocol: 7 });
  }

  async function textOf(chunks: ReadableStream<AssistlyChunk>): Promise<{ text: string; end: string }> {
    let text = '';
    let end = '';
    for await (const chunk of chunks) {
      if (chunk.type === 'text-delta') text += chunk.delta;
      end = chunk.type;
    }
    return { text, end };
  }

  it('streams the answer to a message', async () => {
    const transport = await transportOf('ok');
    const question = newQuestion();

    const chunks = await transport.sendMessages({ ...send, messages: [messageOf(question)] });

    expect(await textOf(chunks)).toEqual({ text: answerTo(question), end: 'finish' });
  });

  it('goes on with an answer after its signal has left it, and stops the model when told', async () => {
    const transport = await transportOf('held');
    const question = newQuestion();
    const leaving = new AbortController();
    const first = await transport.sendMessages({
      ...send,
      messages: [messageOf(question)],
      abortSignal: leaving.signal,
    });
    const call = await provider.callAbout(question);
    leaving.abort();
    await expect(textOf(first)).rejects.toThrow();

    const again = await transport.reconnectToStream({ chatId: 'chat' });
    await transport.stop();

    expect((await textOf(again!)).end).toBe('abort');
    expect(await call.ended).toBe('client');
  });
});
