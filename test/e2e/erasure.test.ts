import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { randomBytes } from 'node:crypto';
import type { ApiClient } from '../support/api-client.js';
import { signEvent, userDeleted } from '../support/clerk-webhook.js';
import { type RawProvider, startRawProvider } from '../support/raw-provider.js';
import { Stack } from '../support/stack.js';
import { TestRedis } from '../support/test-redis.js';
import { waitFor } from '../support/wait.js';

/** A marker in every text that a person or an owner can give is gone everywhere, whichever way it is erased. */

const KEY = randomBytes(24);

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({
    env: {
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'sk-test',
      OPENAI_MODEL: 'ok',
      ALLOWED_MODELS: '*',
      LIMITS_ENABLED: 'true', // since what is counted is stored, too
      CLERK_WEBHOOK_SECRET: `whsec_${KEY.toString('base64')}`,
    },
    timings: { reconcileIntervalMs: 20 },
  });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

/** Where a text is found: in tables of whatever schema, in keys and values of Redis, and in metrics. */
async function placesOf(text: string): Promise<string[]> {
  const places: string[] = [];
  if ((await (await fetch(`${stack.apis[0]!.url}/metrics`)).text()).includes(text)) places.push('metrics');
  const tables = await stack.database.query<{ name: string }>(
    `select format('%I.%I', table_schema, table_name) as name from information_schema.tables
     where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`,
  );
  for (const { name } of tables) {
    const rows = await stack.database.query(
      `select 1 from ${name} t where position($1 in t::text) > 0 limit 1`,
      [text],
    );
    if (rows.length > 0) places.push(name);
  }
  if (stack.redisPrefix === undefined) return places.sort();
  const redis = await TestRedis.connect();
  try {
    for (const key of await redis.keysOf(stack.redisPrefix)) {
      const value = `${key} ${JSON.stringify(await redis.valueOf(key))}`;
      if (value.includes(text)) places.push(`redis ${key}`);
    }
  } finally {
    redis.disconnect();
  }
  return places.sort();
}

interface Marked {
  owner: ApiClient;
  ownerId: string;
  chatbotId: string;
  guestId: string;
  sessionId: string;
  /** In what the person gave, and what was said. */
  ofGuest: string;
  /** In what the owner wrote. */
  ofOwner: string;
}

let worlds = 0;
async function plant(): Promise<Marked> {
  const n = ++worlds;
  const [ofGuest, ofOwner] = [`guestmarker${n}x`, `ownermarker${n}x`];
  const ownerId = `user_erasure_${n}`;
  const owner = stack.owner(ownerId);
  const { id: chatbotId } = await owner.createChatbot({
    name: `Bakery ${ofOwner}`,
    greeting: `Hello {name}, ${ofOwner}`,
    instructions: `Be brief, ${ofOwner}.`,
    unavailableMessage: `Closed, ${ofOwner}.`,
    characteristics: [`A fact: ${ofOwner}.`],
    allowedOrigins: [`https://${ofOwner}.example.com`],
    appearance: {
      avatarUrl: `https://${ofOwner}.example.com/face.png`,
      title: `Ask ${ofOwner}`,
      placeholder: `Say ${ofOwner}`,
      suggestions: [`What of ${ofOwner}?`],
    },
  });
  const opened = await stack.client().openSession(chatbotId, {
    guest: { name: `Ada ${ofGuest}`, email: `${ofGuest}@example.com` },
  });
  const { session, guest } = opened;
  await stack.database.query('update guests set external_id = $1 where id = $2', [ofGuest, session.guest.id]);
  const { body } = await guest.post(
    `/v1/sessions/${session.id}/messages`,
    { content: `What about ${ofGuest}?` },
    { 'idempotency-key': ofGuest },
  );
  await guest.finalReply(body.reply.id);
  const chat = await fetch(`${stack.apis[0]!.url}/v1/sessions/${session.id}/chat`, {
    method: 'POST',
    headers: { authorization: `Bearer ${guest.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      messages: [
        {
          id: `id-of-${ofGuest}`,
          role: 'user',
          parts: [{ type: 'text', text: `And what about ${ofGuest} now?` }],
        },
      ],
    }),
  });
  expect(await chat.text()).toMatch(/\[DONE\]\s*$/);
  const renamed = await owner.patch(`/v1/chatbots/${chatbotId}`, { model: `model-${ofOwner}` });
  expect(renamed.status).toBe(200);
  return {
    owner,
    ownerId,
    chatbotId,
    guestId: session.guest.id,
    sessionId: session.id,
    ofGuest,
    ofOwner,
  };
}

async function webhook(userId: string): Promise<void> {
  const { status } = await fetch(`${stack.apis[0]!.url}/v1/webhooks/clerk`, {
    method: 'POST',
    ...signEvent(userDeleted(userId), { key: KEY }),
  });
  expect(status).toBe(204);
}

/** Each way, and whether what the owner wrote goes, too. */
const WAYS: [string, boolean, (marked: Marked) => Promise<unknown>][] = [
  ['a session', false, ({ owner, sessionId }) => owner.delete(`/v1/sessions/${sessionId}`)],
  ['a guest', false, ({ owner, guestId }) => owner.delete(`/v1/guests/${guestId}`)],
  [
    'a person, by address',
    false,
    ({ owner, ofGuest }) => owner.post('/v1/erasures', { email: `${ofGuest.toUpperCase()}@example.com` }),
  ],
  [
    'a person, by the owner’s own id',
    false,
    ({ owner, chatbotId, ofGuest }) => owner.post('/v1/erasures', { chatbotId, externalId: ofGuest }),
  ],
  [
    'time',
    false,
    async ({ owner, chatbotId, sessionId }) => {
      await stack.database.query(
        `update chat_sessions set active_at = clock_timestamp() - interval '3 days' where id = $1`,
        [sessionId],
      );
      await owner.patch(`/v1/chatbots/${chatbotId}`, { retentionDays: 2 });
    },
  ],
  ['a chatbot', true, ({ owner, chatbotId }) => owner.delete(`/v1/chatbots/${chatbotId}`)],
  ['an owner, at Clerk', true, ({ ownerId }) => webhook(ownerId)],
];

describe('erasing', () => {
  it.each(WAYS)('%s leaves nothing of what people said and gave', async (_, takesOwners, erase) => {
    const marked = await plant();
    const before = await placesOf(marked.ofGuest);
    // It can be found where it is: in the rows, and in the event stream.
    expect(before).toEqual(expect.arrayContaining(['public.guests', 'public.messages']));
    expect(before.some((place) => /event_stream|redis/.test(place))).toBe(true);
    expect(await placesOf(marked.ofOwner)).toEqual(expect.arrayContaining(['public.chatbots']));

    await erase(marked);

    // What is left of a session is its id, in an event that tells its watchers that it is gone; of a chatbot, in what is
    // counted of it, until that time is over.
    const isCount = (place: string): boolean => /rate_limits$|^redis .*:limit:/.test(place);
    const gone = takesOwners ? [marked.ofGuest, marked.ofOwner, marked.chatbotId] : [marked.ofGuest];
    await waitFor('all of it to be gone', async () => {
      const found = await Promise.all(gone.map(placesOf));
      const places = found.flatMap((some, n) =>
        gone[n] === marked.chatbotId ? some.filter((place) => !isCount(place)) : some,
      );
      if (places.length > 0) throw new Error(`it is still in ${places.join(', ')}`);
      return true;
    });
  });
});
