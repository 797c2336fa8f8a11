import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { type Examples, EXAMPLES } from '../../src/openapi/examples.js';
import type { Answer, ApiClient, Json } from '../support/api-client.js';
import { vouch } from '../support/identity.js';
import { Stack } from '../support/stack.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { waitFor, whileTodayLasts } from '../support/wait.js';

/**
 * Set by `npm run openapi:examples`: what the product answers is written down instead of compared. Only where it is not
 * what it was, other ids and times apart: on an unchanged tree nothing changes.
 */
const IS_RECORDING = process.env['RECORD_EXAMPLES'] === '1';

let stack: Stack;
beforeAll(async () => {
  stack = await Stack.start({
    workers: 0,
    env: { BULL_BOARD_USER: 'operator', BULL_BOARD_PASSWORD: 'secret' },
  });
});
afterAll(() => stack.stop());

describe('the examples of the OpenAPI document', () => {
  it('are what the product answers', async () => {
    await whileTodayLasts();
    const played = await play();

    if (IS_RECORDING && !isDeepStrictEqual(normalised(played), normalised(EXAMPLES))) {
      await writeFile('src/openapi/examples.json', `${JSON.stringify(played, null, 2)}\n`);
    } else {
      expect(normalised(played)).toEqual(normalised(EXAMPLES));
    }
  });
});

/** The story of the document: a bakery's chatbot, Ada's session, her question and its answer; and what can go wrong. */
async function play(): Promise<Examples> {
  const answers: Examples['answers'] = {};
  const events: Examples['events'] = {};
  const problems: Examples['problems'] = {};
  /** Sends a request, and keeps it and its answer as the example of an operation, or of a problem. */
  const keep = async (
    name: string,
    client: ApiClient,
    route: string,
    request?: object,
    headers: Record<string, string> = {},
  ): Promise<Answer<Json>> => {
    const [method = '', path = ''] = route.split(' ');
    const answer = await client.request(method, path, {
      headers: { ...(request && { 'content-type': 'application/json' }), ...headers },
      ...(request && { body: JSON.stringify(request) }),
    });
    if (answer.status >= 400) problems[name] = answer.body;
    else {
      answers[name] = {
        ...(request && { request }),
        status: answer.status,
        headers: Object.fromEntries(
          ['location', 'x-event-cursor'].flatMap((header) => {
            const value = answer.headers.get(header);
            return value === null ? [] : [[header, value]];
          }),
        ),
        body: answer.body,
      };
    }
    return answer;
  };
  const owner = stack.owner('user_demo');

  const { body: chatbot } = await keep('createChatbot', owner, 'POST /v1/chatbots', {
    name: 'Bakery',
    greeting: 'Hello {name}!',
    characteristics: [
      'We are open from 7 to 18, Monday to Saturday.',
      'Our rye bread is baked with sourdough only.',
    ],
  });
  const ofChatbot = `/v1/chatbots/${chatbot.id}`;
  await keep('getPublicChatbot', stack.client(), `GET ${ofChatbot}/public`);
  const opened = await keep('openSession', stack.client(), `POST ${ofChatbot}/sessions`, {
    guest: { name: 'Ada', email: 'ada@example.com' },
  });
  const { session, token } = opened.body;
  const ofSession = `/v1/sessions/${session.id}`;
  const guest = stack.client().as(token);
  await keep('createEventToken', guest, `POST ${ofSession}/events/token`);

  const posted = await keep('postMessage', guest, `POST ${ofSession}/messages`, {
    content: 'When are you open?',
  });
  const late = guest.follow(session.id, { after: 'unknown' });
  events['session.snapshot'] = await late.next('session.snapshot');
  await late.close();

  const speaking = await stack.addWorker({ DRAIN_TIMEOUT_MS: '0' });
  const watching = guest.follow(session.id, { after: posted.headers.get('x-event-cursor') ?? '' });
  for (const type of ['message.created', 'reply.queued', 'reply.started', 'reply.delta', 'reply.completed']) {
    events[type] = await watching.next(type);
  }
  const stream = watching.text;
  const ofReply = `/v1/replies/${posted.body.reply.id}`;
  await keep('getReply', guest, `GET ${ofReply}?wait=30`);
  await keep('getSession', guest, `GET ${ofSession}`);
  await keep('listMessages', guest, `GET ${ofSession}/messages`);
  await keep('listSessions', owner, `GET ${ofChatbot}/sessions`);
  await keep('listChatbots', owner, 'GET /v1/chatbots');
  await keep('getChatbot', owner, `GET ${ofChatbot}`);
  await keep('getUsage', owner, `GET ${ofChatbot}/usage?days=1`);
  await keep('listGuests', owner, `GET ${ofChatbot}/guests`);
  await keep('exportGuest', owner, `GET /v1/guests/${session.guest.id}/export`);

  const asked = {
    trigger: 'submit-message',
    messages: [
      { id: 'JbQ3kD7uEw1xPz0a', role: 'user', parts: [{ type: 'text', text: 'Do you bake rye bread?' }] },
    ],
  };
  const told = await guest.post(`${ofSession}/chat`, asked);
  answers['chat'] = { request: asked, status: told.status, headers: {}, body: null };
  const chatStream: string = told.body;
  await keep('listChatMessages', guest, `GET ${ofSession}/chat`);
  const [, answerId = ''] = /"messageId":"([^"]*)"/.exec(chatStream) ?? [];
  await keep('stopChat', guest, `POST ${ofSession}/chat/stop`, { messageId: answerId });
  const edited = await guest.post(`${ofSession}/chat`, { ...asked, messageId: 'JbQ3kD7uEw1xPz0a' });
  const sentences = { message_not_editable: String(edited.body) };

  const added = await keep('createCharacteristic', owner, `POST ${ofChatbot}/characteristics`, {
    content: 'We bake birthday cakes to order, two days ahead.',
  });
  await keep('updateCharacteristic', owner, `PATCH ${ofChatbot}/characteristics/${added.body.id}`, {
    content: 'We bake birthday cakes to order, three days ahead.',
  });
  await keep('listCharacteristics', owner, `GET ${ofChatbot}/characteristics`);
  await keep('updateChatbot', owner, `PATCH ${ofChatbot}`, { greeting: 'Welcome, {name}!' });

  const { body: identity } = await owner.post(`${ofChatbot}/identity-secret`);
  answers['createIdentitySecret'] = {
    request: { revokePrevious: false },
    status: 201,
    headers: {},
    body: { secret: 'ais_uN4Yk0m3l2V5pQzTq8b1xJcR7sWfHgD9aE6iLoKvMwI' },
  };
  const person = stack
    .client()
    .as(
      await vouch(identity.secret, chatbot.id, { sub: 'customer-17', name: 'Ada', email: 'ada@example.com' }),
    );
  const known = await person.openSession(chatbot.id);
  await keep('listGuestSessions', person, 'GET /v1/guest/sessions');
  await keep('createSessionToken', person, `POST /v1/guest/sessions/${known.session.id}/token`);
  await owner.delete(`/v1/sessions/${known.session.id}`);

  const second = await guest.postMessage(session.id, 'What is your rye bread baked with?');
  await watching.next('reply.delta', second.reply.id);
  await keep('cancelReply', guest, `POST /v1/replies/${second.reply.id}/cancel`);
  events['reply.cancelled'] = await watching.next('reply.cancelled', second.reply.id);

  const third = await guest.postMessage(session.id, 'And on Sundays?');
  await watching.next('reply.delta', third.reply.id);
  await speaking.close();
  events['reply.retrying'] = await watching.next('reply.retrying');
  const provider = await startProviderThatRefuses();
  await stack.addWorker({ OPENAI_BASE_URL: provider.url, OPENAI_API_KEY: 'revoked' });
  events['reply.failed'] = await watching.next('reply.failed', third.reply.id);
  const retried = await keep('retryReply', guest, `POST /v1/replies/${third.reply.id}/retry`);
  await watching.next('reply.queued', retried.body.id);
  await provider.close();
  await waitFor('its publishing to be noted', async () => {
    const rows = await stack.database.query(
      `select 1 from replies where id = '${third.reply.id}' and announced_at is not null`,
    );
    return rows.length > 0;
  });
  const life = await keep('getReplyLife', stack.client(), `GET /admin/replies/${third.reply.id}`, undefined, {
    authorization: `Basic ${Buffer.from('operator:secret').toString('base64')}`,
  });
  // Not this machine's name, nor this process's number.
  for (const step of life.body.steps) step.worker &&= 'worker-1/17';

  await keep('unauthorized', stack.client(), 'GET /v1/chatbots');
  await keep('invalid_request', owner, 'POST /v1/chatbots', { name: '', nickname: 'B' });
  await keep('invalid_parameter', owner, 'GET /v1/chatbots?limit=1000');
  await keep('invalid_cursor', owner, 'GET /v1/chatbots?cursor=abc');
  await keep('not_found', owner, 'GET /v1/chatbots/01a203eb-82fd-76a1-a5fa-4018ce01bf49');
  await keep('reply_not_retryable', guest, `POST ${ofReply}/retry`);
  await keep('payload_too_large', owner, `POST ${ofChatbot}/characteristics`, {
    content: 'x'.repeat(130 * 1024),
  });
  await keep('unsupported_media_type', owner, 'POST /v1/chatbots', {}, { 'content-type': 'text/plain' });
  problems['malformed_json'] = (
    await owner.request('POST', '/v1/chatbots', {
      headers: { 'content-type': 'application/json' },
      body: '{"name":',
    })
  ).body;
  const key = { 'idempotency-key': 'c4a1b5c0' };
  await owner.post('/v1/chatbots', { name: 'Florist' }, key);
  await keep('idempotency_key_reused', owner, 'POST /v1/chatbots', { name: 'Butcher' }, key);
  const closed = await owner.createChatbot({ name: 'Ice cream parlour', isEnabled: false });
  const elsewhere = { origin: 'https://elsewhere.example' };
  await keep('origin_not_allowed', owner, 'GET /v1/chatbots', undefined, elsewhere);
  await keep('chatbot_disabled', stack.client(), `POST /v1/chatbots/${closed.id}/sessions`, {});
  const { body: full } = await owner.post('/v1/chatbots', {
    name: 'Library',
    characteristics: Array.from({ length: 200 }, (_, index) => `Shelf ${index + 1}`),
  });
  await keep('limit_reached', owner, `POST /v1/chatbots/${full.id}/characteristics`, { content: 'One more' });
  const limited = await stack.addApi({ LIMITS_ENABLED: 'true', LIMIT_SESSIONS_PER_ADDRESS: '1/60' });
  await stack.client().at(limited.url).openSession(full.id);
  await keep('rate_limited', stack.client().at(limited.url), `POST /v1/chatbots/${full.id}/sessions`, {});
  const strict = await stack.addApi({ LIMIT_REPLY_MESSAGES: '1' });
  const talk = await stack.client().openSession(full.id);
  const ofTalk = `/v1/sessions/${talk.session.id}/messages`;
  await stack.database.query(
    `insert into replies (id, chat_session_id) values ('${randomUUID()}', '${talk.session.id}')`,
  );
  await talk.guest.postMessage(talk.session.id, 'Is shelf 1 high?');
  await keep('reply_full', talk.guest.at(strict.url), `POST ${ofTalk}`, { content: 'And shelf 2?' });
  await stack.database.query(`update chat_sessions set message_count = 2000 where id = '${talk.session.id}'`);
  await keep('session_full', talk.guest, `POST ${ofTalk}`, { content: 'And shelf 3?' });
  problems['idempotency_in_progress'] = await whileKeyIsTaken(
    [`guest:${session.id}`, 'POST', `${ofSession}/messages`, 'c4a1b5c1'],
    () => guest.post(`${ofSession}/messages`, { content: 'Hello?' }, { 'idempotency-key': 'c4a1b5c1' }),
  );
  await stack.database.query('alter table guests rename to guests_of_old');
  await keep('internal_error', guest, `GET ${ofSession}`);
  await stack.database.query('alter table guests_of_old rename to guests');
  const proxy = await startTcpProxy(stack.database.url);
  const cutOff = await stack.addApi({ DATABASE_URL: proxy.url });
  proxy.refuse(true);
  proxy.cut();
  await keep('service_unavailable', guest.at(cutOff.url), `GET ${ofSession}`);
  await proxy.close();

  await owner.delete(ofSession);
  events['session.deleted'] = await watching.next('session.deleted');
  await keep('erasePerson', owner, 'POST /v1/erasures', { email: 'ada@example.com' });
  await keep('getLiveness', stack.client(), 'GET /health/live');
  await keep('getReadiness', stack.client(), 'GET /health/ready');
  return { answers, events, stream, chatStream, problems, sentences };
}

async function startProviderThatRefuses(): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer((_request, response) => {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end('{"error":{"message":"Incorrect API key provided."}}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** The answer to a request while another one with the same idempotency key is in its transaction. */
async function whileKeyIsTaken(
  parts: string[],
  request: () => Promise<Answer<Json>>,
): Promise<{ code: string; detail: string }> {
  const client = new pg.Client({ connectionString: stack.database.url });
  await client.connect();
  await client.query('begin');
  await client.query(`insert into idempotency_keys (id, body_hash, result) values ($1, '', '{}')`, [
    createHash('sha256').update(parts.join('\0')).digest('hex'),
  ]);
  const { body } = await request();
  await client.query('rollback');
  await client.end();
  return body;
}

/**
 * What must be the same each time. Ids become the order in which they first appear, so that the references between
 * the examples count; times, tokens and cursors become their kind, as does the number of a chatbot's sessions, which is
 * counted now and then; how a text was cut into deltas does not count, nor
 * how much of a reply was shown before it was cancelled.
 */
function normalised(examples: Examples): unknown {
  const ids = new Map<string, string>();
  const withoutDeltas = {
    ...examples,
    stream: examples.stream.replaceAll(/id: \S+\nevent: reply\.delta\ndata: .*\n\n/g, ''),
    chatStream: examples.chatStream.replaceAll(/data: \{"type":"(?:text-delta|data-reply)".*\n\n/g, ''),
    events: {
      ...examples.events,
      'reply.delta': Object.keys(examples.events['reply.delta']?.data ?? {}),
      'reply.cancelled': JSON.parse(
        JSON.stringify(examples.events['reply.cancelled']).replace(/"content":"[^"]*"/, '"content":"a text"'),
      ),
    },
  };
  const text = JSON.stringify(withoutDeltas, (key, value: unknown) => {
    if (['outputTokens', 'inputTokens', 'sessionCount'].includes(key)) return 'a number';
    if (key === 'token' || key === 'requestId') return `a ${key}`;
    return value;
  });
  return JSON.parse(
    text
      .replaceAll(/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g, (id) => {
        if (!ids.has(id)) ids.set(id, `id ${ids.size + 1}`);
        return ids.get(id) ?? '';
      })
      .replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'a time')
      .replaceAll(/"\d{4}-\d\d-\d\d"/g, '"a day"')
      .replaceAll(/\b[0-9a-z]{8,32}-\d+\b/g, 'a cursor'),
  );
}
