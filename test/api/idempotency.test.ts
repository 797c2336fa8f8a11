import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { Stack } from '../support/stack.js';
import type { ApiClient, Json } from '../support/api-client.js';

describe('Idempotency-Key', () => {
  let stack: Stack;
  let chatbot: Json;
  beforeAll(async () => {
    stack = await Stack.start({ apis: 2, timings: { idempotencyWaitMs: 30_000 } });
    chatbot = await stack.owner().createChatbot();
  });
  afterAll(() => stack.stop());

  const post = (client: ApiClient, sessionId: string, key: string, body: object) =>
    client.post(`/v1/sessions/${sessionId}/messages`, body, { 'idempotency-key': key });

  it('makes one message and one reply of twenty equal requests at once, over two apis', async () => {
    const { session, guest } = await stack.client().openSession(chatbot.id);

    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        post(guest.at(stack.apis[i % 2]!.url), session.id, 'key-1', { content: 'Hi' }),
      ),
    );

    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 202));
    expect(new Set(answers.map(({ body }) => `${body.message.id} ${body.reply.id}`)).size).toBe(1);
    expect(new Set(answers.map(({ headers }) => headers.get('x-event-cursor'))).size).toBe(1);
    expect(answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true')).toHaveLength(19);
    await guest.finalReply(answers[0]!.body.reply.id);
    expect(await guest.messages(session.id)).toHaveLength(2);
    expect(
      await stack.database.query('select 1 from replies where chat_session_id = $1', [session.id]),
    ).toHaveLength(1);
  });

  it('answers with the ids of then and the rows as they are now', async () => {
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const first = await post(guest, session.id, '"quoted"', { content: 'Hi' });
    await guest.finalReply(first.body.reply.id);

    const again = await post(guest, session.id, 'quoted', { content: 'Hi' });

    expect(again.status).toBe(202);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect(again.body.message).toEqual(first.body.message);
    expect(again.body.reply).toMatchObject({ id: first.body.reply.id, status: 'completed' });
  });

  it('belongs to the route and its ids, however the path is spelt', async () => {
    const { session, guest, token } = await stack.client().openSession(chatbot.id);
    const first = await post(guest, session.id, 'spelt', { content: 'Hi' });
    const path = `/v1/sessions/${session.id}/messages`;

    for (const spelt of [
      `${path}/`,
      `/V1/Sessions/${session.id}/MESSAGES`,
      path.replace(session.id, session.id.toUpperCase()),
      path.replace('messages', '%6dessages'),
      path.replace(session.id, `%${session.id.charCodeAt(0).toString(16)}${session.id.slice(1)}`),
    ]) {
      // Not by the client that holds answers against openapi.json, which knows one spelling.
      const again = await fetch(stack.apis[0]!.url + spelt, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${token}`,
          'content-type': 'application/json',
          'idempotency-key': 'spelt',
        },
        body: JSON.stringify({ content: 'Hi' }),
      });

      const body = (await again.json()) as Json;
      if (again.status === 404) continue; // a spelling that leads nowhere does nothing
      expect([spelt, again.status, again.headers.get('idempotency-replayed')]).toEqual([spelt, 202, 'true']);
      expect(body.message.id).toBe(first.body.message.id);
    }
    expect((await guest.messages(session.id)).filter(({ sender }) => sender === 'user')).toHaveLength(1);
  });

  it('is refused with another body, and belongs to its caller and route', async () => {
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const other = await stack.client().openSession(chatbot.id);
    const first = await post(guest, session.id, 'mine', { content: 'Hi' });

    const reused = await post(guest, session.id, 'mine', { content: 'Ho' });
    const elsewhere = await post(other.guest, other.session.id, 'mine', { content: 'Ho' });
    const byOwner = await post(stack.owner(), session.id, 'mine', { content: 'Ho' });

    expect([reused.status, reused.body.code]).toEqual([422, 'idempotency_key_reused']);
    expect([elsewhere.status, byOwner.status]).toEqual([202, 202]);
    expect(byOwner.body.message.id).not.toBe(first.body.message.id);
  });

  it.each(['', ' ', 'a b', 'ä', 'x'.repeat(256), '""'])(
    'is refused where it is unusable: %j',
    async (key) => {
      const { session, guest } = await stack.client().openSession(chatbot.id);
      // What cannot be sent as a header at all is none.
      const answer = await post(guest, session.id, key, { content: 'Hi' }).catch(() => null);

      if (answer && key.trim() !== '')
        expect([answer.status, answer.body.code]).toEqual([400, 'invalid_request']);
      else if (answer) expect([202, 400]).toContain(answer.status);
    },
  );

  it('keeps only successes', async () => {
    const { session, guest } = await stack.client().openSession(chatbot.id);
    expect((await post(guest, session.id, 'try', { content: '' })).status).toBe(400);

    const answer = await post(guest, session.id, 'try', { content: 'Hi' });

    expect(answer.status).toBe(202);
    expect(answer.headers.get('idempotency-replayed')).toBeNull();
  });

  it('waits for a first request that is still running, and gives up after a while', async () => {
    const impatient = await Stack.start({ workers: 0, timings: { idempotencyWaitMs: 500 } });
    const { id: chatbotId } = await impatient.owner().createChatbot();
    const { session, guest } = await impatient.client().openSession(chatbotId);
    const path = `/v1/sessions/${session.id}/messages`;
    const id = createHash('sha256')
      .update([`guest:${session.id}`, 'POST', path, 'slow'].join('\0'))
      .digest('hex');
    const first = new pg.Client({ connectionString: impatient.database.url });
    await first.connect();
    await first.query('begin');
    await first.query(`insert into idempotency_keys (id, body_hash, result) values ($1, '', '{}')`, [id]);

    const second = await post(guest, session.id, 'slow', { content: 'Hi' });
    await first.query('rollback');
    await first.end();
    const third = await post(guest, session.id, 'slow', { content: 'Hi' });
    await impatient.stop();

    expect([second.status, second.body.code]).toEqual([409, 'idempotency_in_progress']);
    expect(third.status).toBe(202);
    expect(third.headers.get('idempotency-replayed')).toBeNull();
  });

  it('creates one chatbot of a repeated request, and forgets a key after a day', async () => {
    const owner = stack.owner('user_idempotent');
    const create = () =>
      owner.post('/v1/chatbots', { name: 'Once', characteristics: ['A', 'B'] }, { 'idempotency-key': 'bot' });
    const first = await create();
    const again = await create();
    await stack.database.query(`update idempotency_keys set created_at = created_at - interval '25 hours'`);
    const nextDay = await create();

    expect([first.status, again.status, nextDay.status]).toEqual([201, 201, 201]);
    expect(again.body).toEqual(first.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expect(nextDay.body.id).not.toBe(first.body.id);
    expect(nextDay.headers.get('idempotency-replayed')).toBeNull();
    expect((await owner.get('/v1/chatbots')).body.data).toHaveLength(2);
  });

  it('makes one retry of a repeated request', async () => {
    const { session, guest } = await stack.client().openSession(chatbot.id);
    const { reply } = await guest.postMessage(session.id, 'Hi');
    await guest.finalReply(reply.id);
    await stack.database.query(
      `update replies set status = 'failed', error_code = 'internal', finish_reason = null where id = $1`,
      [reply.id],
    );
    const retry = () =>
      guest.post(`/v1/replies/${reply.id}/retry`, undefined, { 'idempotency-key': 'again' });

    const [first, second] = await Promise.all([retry(), retry()]);

    expect([first.status, second.status]).toEqual([202, 202]);
    expect(second.body.id).toBe(first.body.id);
  });
});
