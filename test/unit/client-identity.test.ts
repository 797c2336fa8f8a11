import { type Chat, createChat } from 'assistly-client';
import { afterEach, describe, expect, it } from '@jest/globals';
import { waitFor } from '../support/wait.js';

/** A verified guest, against an api that is played. */

interface Asked {
  route: string;
  authorization: string | null;
}

const SNAPSHOT = 'id: c1\nevent: session.snapshot\ndata: {"messages":[],"replies":[]}\n\n';

const open: Chat[] = [];
afterEach(() => {
  for (const chat of open.splice(0)) chat.close();
});

const unauthorized = (): Response =>
  Response.json({ code: 'unauthorized', detail: 'Not good any more.' }, { status: 401 });

/** @param isGood whether a session token is good @param hasTokenRoute whether the api gives another one */
function chatOf(isGood: (token: string) => boolean, hasTokenRoute: boolean): { chat: Chat; asked: Asked[] } {
  const asked: Asked[] = [];
  let tokens = 0;
  let identities = 0;
  const answer = (route: string, token: string): Response => {
    if (route === 'POST /v1/chatbots/bot/sessions') {
      const id = `s${++tokens}`;
      return Response.json({ session: { id }, token: `token-${tokens}`, messages: [] }, { status: 201 });
    }
    if (route.startsWith('POST /v1/guest/sessions/')) {
      return hasTokenRoute
        ? Response.json({ token: `token-${++tokens}` }, { status: 201 })
        : Response.json({ code: 'not_found', detail: 'No such route.' }, { status: 404 });
    }
    if (!isGood(token)) return unauthorized();
    return new Response(
      new ReadableStream({
        start: (stream) => stream.enqueue(new TextEncoder().encode(SNAPSHOT)),
      }),
    );
  };
  const chat = createChat({
    baseUrl: 'http://api',
    chatbotId: 'bot',
    identity: () => Promise.resolve(`identity-${++identities}`),
    fetch: (url, init) => {
      const authorization = new Headers(init?.headers).get('authorization');
      const route = `${init?.method ?? 'GET'} ${new URL(String(url)).pathname}`;
      asked.push({ route, authorization });
      return Promise.resolve(answer(route, authorization?.replace('Bearer ', '') ?? ''));
    },
  });
  open.push(chat);
  return { chat, asked };
}

describe('a verified guest', () => {
  it('opens with a token of the owner, and gets another for the session when that is good no more', async () => {
    const { chat, asked } = chatOf((token) => token !== 'token-1', true);

    await waitFor('the chat to be open', () => chat.status === 'open');

    expect(asked).toEqual([
      { route: 'POST /v1/chatbots/bot/sessions', authorization: 'Bearer identity-1' },
      { route: 'GET /v1/sessions/s1/events', authorization: 'Bearer token-1' },
      { route: 'POST /v1/guest/sessions/s1/token', authorization: 'Bearer identity-2' },
      { route: 'GET /v1/sessions/s1/events', authorization: 'Bearer token-2' },
    ]);
    expect(chat.error).toBeNull();
  });

  it('goes on in another session where there is no other token to be had', async () => {
    const { chat, asked } = chatOf((token) => token !== 'token-1', false);

    await waitFor('the chat to be open', () => chat.status === 'open');

    expect(asked.at(-1)).toEqual({ route: 'GET /v1/sessions/s2/events', authorization: 'Bearer token-2' });
  });

  it('ends where new tokens are refused as well', async () => {
    const { chat, asked } = chatOf(() => false, true);

    await waitFor('the end', () => chat.status === 'ended');

    expect(chat.error).toMatchObject({ code: 'unauthorized', status: 401 });
    expect(asked).toHaveLength(4);
  });
});
