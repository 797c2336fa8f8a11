import { randomUUID } from 'node:crypto';
import type { ApiClient, Json } from './api-client.js';
import type { Speakable } from './conversations.js';
import { waitFor } from './wait.js';
import type { Backend } from './conversations.js';
import { createTestDatabase } from './database.js';
import { type FOREIGN_SETTINGS, giveSettings } from './database-settings.js';
import type { RawProvider } from './raw-provider.js';
import { Stack } from './stack.js';

/** What everybody sees who comes by, step by step, without what no two visits have in common. */
export type Visit = [step: string, seen: Json][];

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
const ISO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
/** Since a visit began; clocks are those of one machine. */
const TOLERANCE_MS = 5_000;

/** Ids by the order in which they are seen, times that are right as such, secrets not at all; all else as it came. */
class Transcript {
  readonly steps: Visit = [];
  private readonly ids = new Map<string, string>();
  private readonly startedAt = Date.now();

  note(step: string, seen: unknown): void {
    const text = JSON.stringify(seen, (key, value: unknown) => {
      // An estimate gives way to the count when a job has counted.
      if (key === 'promptTokens') return Number.isSafeInteger(value) ? 'a count' : value;
      if (typeof value !== 'string') return value;
      if (key === 'token' || key === 'nextCursor') return '…';
      if (!/(At|^timestamp)$/.test(key)) return value;
      const time = Date.parse(value);
      const isRight = time >= this.startedAt - TOLERANCE_MS && time <= Date.now() + TOLERANCE_MS + DAY_MS;
      return ISO_TIME.test(value) && isRight ? 'a time' : `not right: ${value}`;
    });
    this.steps.push([step, JSON.parse(text.replace(UUID, (id) => this.nameOf(id)))]);
  }

  private nameOf(id: string): string {
    const name = this.ids.get(id) ?? `id ${this.ids.size + 1}`;
    this.ids.set(id, name);
    return name;
  }
}

/** Tokens of the event stream last for so long. */
const DAY_MS = 24 * 60 * 60_000;

/** All pages of a list, two rows each. */
async function pages(client: ApiClient, path: string): Promise<Json[]> {
  const seen: Json[] = [];
  for (let cursor: string | null = null; ;) {
    const answer: Json = await client.get(
      `${path}${path.includes('?') ? '&' : '?'}limit=2${cursor === null ? '' : `&cursor=${cursor}`}`,
    );
    seen.push({ status: answer.status, body: answer.body });
    cursor = answer.body?.nextCursor ?? null;
    if (cursor === null || seen.length > 10) return seen;
  }
}

/**
 * Does everything that clients do, and gives what they see: chatbots and their characteristics, sessions, posts with and
 * without a key, the events, a cancel, a retry, lists with cursors, deletions.
 */
export async function visit(stack: Speakable): Promise<Visit> {
  const transcript = new Transcript();
  const owner = stack.owner();
  const anybody = stack.client();
  const see = async (step: string, answer: Promise<{ status: number; body: Json }>): Promise<Json> => {
    const { status, body } = await answer;
    transcript.note(step, { status, body });
    return body;
  };

  await waitFor('readiness', async () => (await anybody.get('/health/ready')).status === 200);
  const key = { 'idempotency-key': randomUUID() };
  const bakery = {
    name: "O'Brien\\'s Bäckerei",
    greeting: 'Hello {name}!',
    model: 'held',
    characteristics: ['Opens at 7.', 'C:\\breads\\n', "It's 🥐"],
  };
  const chatbot = await see('create', owner.post('/v1/chatbots', bakery, key));
  await see('create again', owner.post('/v1/chatbots', bakery, key));
  for (const name of ['Second', 'Third']) await see('create', owner.post('/v1/chatbots', { name }));
  const path = `/v1/chatbots/${chatbot.id}`;
  const added = await see('add', owner.post(`${path}/characteristics`, { content: 'Closes at 18.' }));
  await see('change', owner.patch(`${path}/characteristics/${added.id}`, { content: 'Closes at 19.' }));
  await see('change', owner.patch(path, { name: 'Bäckerei' }));
  transcript.note('characteristics', await pages(owner, `${path}/characteristics`));
  transcript.note('chatbots', await pages(owner, '/v1/chatbots'));

  const guests = [{ name: 'Ada', email: 'ada@example.org' }, { name: 'Bo' }, {}];
  const sessions: Json[] = [];
  for (const guest of guests) sessions.push(await see('open', anybody.post(`${path}/sessions`, { guest })));
  const [{ session, token }] = sessions;
  const guest = anybody.as(token);
  const stream = await guest.follow(session.id).opened();
  // The provider knows a question that was asked before.
  const post = { content: `When do you open, ${randomUUID()}?` };
  const posted = await see('post', guest.post(`/v1/sessions/${session.id}/messages`, post, key));
  await waitFor('text', () => stream.textOf(posted.reply.id).length > 10);
  await waitFor(
    'a checkpoint',
    async () => (await guest.get(`/v1/replies/${posted.reply.id}`)).body.firstTokenAt,
  );
  const cancelled = await guest.post(`/v1/replies/${posted.reply.id}/cancel`);
  transcript.note('cancel', { status: cancelled.status, reply: { ...cancelled.body, usage: null } });
  await stream.next('reply.cancelled');
  const retried = await see('retry', guest.post(`/v1/replies/${posted.reply.id}/retry`, undefined, key));
  transcript.note('answer', await guest.finalReply(retried.id));
  await stream.next('reply.completed', retried.id);
  const repeated = await guest.post(`/v1/sessions/${session.id}/messages`, post, key);
  transcript.note('post again', { status: repeated.status, message: repeated.body.message });

  const asked = await guest.postMessage(session.id, `Do you have bread, ${randomUUID()}?`);
  transcript.note('held', { ...asked, cursor: null });
  await waitFor('text', () => stream.textOf(asked.reply.id).length > 10);
  await see(
    'cancel',
    guest.post(`/v1/replies/${asked.reply.id}/cancel`).then(({ status }) => ({ status, body: null })),
  );
  const snapshot = guest.follow(session.id, { lastEventId: '0-0' });
  const { data } = await snapshot.next('session.snapshot');
  transcript.note('snapshot', {
    messages: data.messages.map((message: Json) => ({ ...message, content: message.content.slice(0, 4) })),
    replies: data.replies.map((reply: Json) => ({ ...reply, usage: null })),
  });
  await snapshot.close();
  for (const order of ['asc', 'desc']) {
    const messages = await pages(guest, `/v1/sessions/${session.id}/messages?order=${order}`);
    transcript.note(
      `messages ${order}`,
      messages.map(({ status, body }) => ({
        status,
        data: body.data.map((message: Json) => ({ ...message, content: message.content.slice(0, 4) })),
      })),
    );
  }
  await see('token', guest.post(`/v1/sessions/${session.id}/event-tokens`));

  // Many at once: of the same key, and in many sessions, whose writes meet in the tables' indexes.
  const same = { 'idempotency-key': randomUUID() };
  const [, other] = sessions;
  const bo = anybody.as(other.token);
  await owner.patch(path, { model: 'ok' });
  const equal = await Promise.all(
    Array.from({ length: 12 }, () =>
      bo.post(`/v1/sessions/${other.session.id}/messages`, { content: 'Hello?' }, same),
    ),
  );
  transcript.note('equal posts', [
    ...new Set(equal.map(({ status, body }) => `${status} ${body.message?.id}`)),
  ]);
  const crowd = await Promise.all(
    Array.from({ length: 12 }, async (_, i) => {
      const opened = await anybody.openSession(chatbot.id);
      const replies = await Promise.all(
        [1, 2, 3].map((n) => opened.guest.postMessage(opened.session.id, `Question ${i}.${n}`)),
      );
      const ends = await Promise.all(replies.map(({ reply }) => opened.guest.finalReply(reply.id)));
      return ends.map(({ status, attempt }) => ({ status, attempt }));
    }),
  );
  transcript.note('crowd', crowd);
  await bo.finalReply(equal[0]!.body.reply.id);
  transcript.note(
    'answered',
    (await bo.messages(other.session.id)).map(({ sender, content }) => [sender, content]),
  );

  transcript.note(
    'sessions',
    (await pages(owner, `${path}/sessions`)).map(({ status, body }) => [status, body.data.length]),
  );
  await see('delete a session', owner.delete(`/v1/sessions/${session.id}`));
  await stream.next('session.deleted');
  await stream.close();
  transcript.note(
    'events',
    stream.events
      .filter(({ event }) => event !== 'reply.delta')
      .map(({ event, data: { message, reply, ...rest } }) => ({
        event,
        ...rest,
        text: undefined,
        sender: message?.sender,
        reply: reply && { ...reply, usage: null },
      })),
  );
  await see('delete a guest', owner.delete(`/v1/guests/${other.session.guest.id}`));
  await see('gone', owner.get(`/v1/sessions/${other.session.id}`));
  await see('delete a chatbot', owner.delete(path));
  transcript.note('chatbots', await pages(owner, '/v1/chatbots'));
  return transcript.steps;
}

/** The visit of a product whose database has these settings. */
export async function visitWith(
  provider: RawProvider,
  settings: typeof FOREIGN_SETTINGS,
  backend: Backend = 'postgres',
  env: (url: string) => Record<string, string> = () => ({}),
): Promise<Visit> {
  const database = await createTestDatabase();
  await giveSettings(database, settings);
  const stack = await Stack.start({
    backend,
    database,
    env: { OPENAI_BASE_URL: provider.baseUrl, ...env(database.url) },
  });
  try {
    return await visit(stack);
  } finally {
    await stack.stop();
  }
}
