import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomUUID,
  sign,
} from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Json } from '../support/api-client.js';
import { checkedFetch } from '../support/contract.js';
import { type Caller, fill, type Route, ROUTES } from '../support/routes.js';
import { signLocalOwnerToken } from '../support/product.js';
import { vouch } from '../support/identity.js';
import { Stack } from '../support/stack.js';

/** What an owner has, each made anew, since some routes use it up. */
interface World {
  chatbotId: string;
  characteristicId: string;
  sessionId: string;
  guestId: string;
  replyId: string;
  tokens: Record<
    | 'guest'
    | 'otherGuestOfChatbot'
    | 'guestOfOtherChatbot'
    | 'eventToken'
    | 'otherEventToken'
    | 'person'
    | 'otherPersonOfChatbot'
    | 'personOfOtherChatbot',
    string
  >;
}

/** Where a world has the ids of a path, by the path's segment before each. */
const ID_OF: Record<string, (world: World) => string> = {
  chatbots: (world) => world.chatbotId,
  characteristics: (world) => world.characteristicId,
  sessions: (world) => world.sessionId,
  replies: (world) => world.replyId,
  guests: (world) => world.guestId,
  chat: () => 'of-the-client', // which means nothing
};

/** The ids in the path, in their order; none: a collection of one's own, which nobody else has. */
const idsOf = ({ collections }: Route, world: World): string[] =>
  collections.map((collection) => {
    const id = ID_OF[collection]?.(world);
    if (id === undefined) throw new Error(`a world has no id of ${collection}: add it to ID_OF`);
    return id;
  });

const nameOf = ({ method, path }: Route): string => `${method} ${path}`;
/** HEAD of a stream is a route of its own, which the document does not name: it is for whom GET is for. */
const TESTED: Route[] = ROUTES.flatMap((route) =>
  /^GET .*\/(events|stream)$/.test(nameOf(route)) ? [route, { ...route, method: 'HEAD' }] : [route],
);

let stack: Stack;
/** For those who get nothing. */
let world: World;
beforeAll(async () => {
  stack = await Stack.start({ workers: 0 });
  world = await createWorld();
});
afterAll(() => stack.stop());

async function createWorld(): Promise<World> {
  const owner = stack.owner();
  const { id: chatbotId, characteristics } = await owner.createChatbot({
    name: 'Bakery',
    characteristics: ['a'],
  });
  const other = await owner.createChatbot({ name: 'Another of the same owner' });
  const secretOf = async (id: string): Promise<string> =>
    (await owner.post(`/v1/chatbots/${id}/identity-secret`)).body.secret;
  const [secret, otherSecret] = [await secretOf(chatbotId), await secretOf(other.id)];
  const person = await vouch(secret, chatbotId);
  const mine = await stack
    .client()
    .as(person)
    .openSession(chatbotId, { guest: { name: 'Ada' } });
  const neighbour = await stack.client().openSession(chatbotId, { guest: { name: 'Bob' } });
  const elsewhere = await stack.client().openSession(other.id);
  const { reply } = await mine.guest.postMessage(mine.session.id, 'Hello?');
  // Ended, so that it can be retried; cancelling it again is allowed.
  await mine.guest.post(`/v1/replies/${reply.id}/cancel`);
  const eventTokenOf = async ({ guest, session }: typeof mine): Promise<string> =>
    (await guest.post(`/v1/sessions/${session.id}/events/token`)).body.token;
  return {
    chatbotId,
    characteristicId: characteristics[0].id,
    sessionId: mine.session.id,
    guestId: mine.session.guest.id,
    replyId: reply.id,
    tokens: {
      guest: mine.token,
      otherGuestOfChatbot: neighbour.token,
      guestOfOtherChatbot: elsewhere.token,
      eventToken: await eventTokenOf(mine),
      otherEventToken: await eventTokenOf(neighbour),
      person,
      otherPersonOfChatbot: await vouch(secret, chatbotId, { sub: 'person-2' }),
      personOfOtherChatbot: await vouch(otherSecret, other.id),
    },
  };
}

interface Credential {
  authorization?: string;
  query?: string;
}

const bearer = (token: string): Credential => ({ authorization: `Bearer ${token}` });
const base64 = (text: string): string => Buffer.from(text).toString('base64');

interface Sent {
  status: number;
  headers: Headers;
  body: Json;
}

async function send(
  route: Route,
  ids: string[],
  credential: Credential,
  headers: Record<string, string> = {},
): Promise<Sent> {
  const body = route.body?.example;
  const path = fill(route.path, ids);
  const response = await checkedFetch(`${stack.apis[0]!.url}${path}${credential.query ?? ''}`, {
    method: route.method,
    headers: {
      ...(credential.authorization !== undefined && { authorization: credential.authorization }),
      ...(body && { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
    await response.body?.cancel();
    return { status: response.status, headers: response.headers, body: null };
  }
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === '' ? null : route.hasPlainErrors ? problemIn(response, text) : JSON.parse(text),
  };
}

/** As a problem document would have it. */
const problemIn = ({ headers, status }: Response, detail: string): Json => ({
  status,
  code: headers.get('x-error-code'),
  detail,
});

/** A JWT of whatever header and claims, signed by whatever means. */
function jwt(header: object, claims: object, signer: (unsigned: string) => string): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const unsigned = `${part(header)}.${part(claims)}`;
  return `${unsigned}.${signer(unsigned)}`;
}

const localPrivateKey = () => createPrivateKey(readFileSync(join(stack.stateDir, 'owner-token-key.pem')));
const rs256 = (key: Parameters<typeof sign>[2]) => (unsigned: string) =>
  sign('RSA-SHA256', Buffer.from(unsigned), key).toString('base64url');

function claims(changes: object = {}): object {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: 'https://assistly.local',
    sub: 'user_owner',
    iat: now - 60,
    nbf: now - 60,
    exp: now + 3600,
    ...changes,
  };
}

const RS256 = { alg: 'RS256', typ: 'JWT', kid: 'local' };

/** Those whom no route may take for anybody: each is answered like a caller without a credential. */
const NOBODIES: Record<string, () => Credential> = {
  'no credential': () => ({}),
  'a garbage bearer': () => bearer('garbage'),
  'an empty bearer': () => ({ authorization: 'Bearer ' }),
  'a session token that was never given': () => bearer(`ast_${'A'.repeat(43)}`),
  'an event token as bearer': () => bearer(world.tokens.eventToken),
  'an expired owner token': () =>
    bearer(signLocalOwnerToken(stack.stateDir, 'user_owner', Date.now() - 31 * 86_400_000)),
  'an owner token that expired ten seconds ago': () =>
    bearer(jwt(RS256, claims({ exp: Math.floor(Date.now() / 1000) - 10 }), rs256(localPrivateKey()))),
  'an owner token that is not valid yet': () =>
    bearer(jwt(RS256, claims({ nbf: Math.floor(Date.now() / 1000) + 60 }), rs256(localPrivateKey()))),
  'an owner token without a subject': () =>
    bearer(jwt(RS256, claims({ sub: undefined }), rs256(localPrivateKey()))),
  'an owner token with a changed subject': () => {
    const [header, , signature] = stack.ownerToken().split('.');
    return bearer(`${header}.${Buffer.from(JSON.stringify(claims())).toString('base64url')}.${signature}`);
  },
  'an owner token signed with another key': () =>
    bearer(jwt(RS256, claims(), rs256(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey))),
  'an owner token of alg none': () => bearer(jwt({ alg: 'none', typ: 'JWT' }, claims(), () => '')),
  'an owner token of HS256, keyed with the public key': () => {
    const pem = createPublicKey(localPrivateKey()).export({ type: 'spki', format: 'pem' });
    return bearer(
      jwt({ ...RS256, alg: 'HS256' }, claims(), (unsigned) =>
        createHmac('sha256', pem).update(unsigned).digest('base64url'),
      ),
    );
  },
  'an owner token of eight KB and more': () => bearer(`${stack.ownerToken()}${'A'.repeat(8_192)}`),
  'an owner token in ?token=': () => ({ query: `?token=${stack.ownerToken()}` }),
  'an owner token in ?access_token=': () => ({ query: `?access_token=${stack.ownerToken()}` }),
  'a session token in ?token=': () => ({ query: `?token=${world.tokens.guest}` }),
  'a session token as Basic password': () => ({
    authorization: `Basic ${base64(`:${world.tokens.guest}`)}`,
  }),
  'a session token as Basic user': () => ({ authorization: `Basic ${base64(`${world.tokens.guest}:`)}` }),
  'a session token after Basic': () => ({ authorization: `Basic ${world.tokens.guest}` }),
  'a session token without a scheme': () => ({ authorization: world.tokens.guest }),
  'two tokens in one header': () => ({
    authorization: `Bearer ${world.tokens.guest}, Bearer ${stack.ownerToken()}`,
  }),
};

/** Those who are somebody, but not the one whose thing it is. */
const STRANGERS: Record<string, { kind: Caller; credential: () => Credential }> = {
  'the guest of another session of the chatbot': {
    kind: 'guest',
    credential: () => bearer(world.tokens.otherGuestOfChatbot),
  },
  'the guest of another chatbot': {
    kind: 'guest',
    credential: () => bearer(world.tokens.guestOfOtherChatbot),
  },
  'the holder of another session’s event token': {
    kind: 'watcher',
    credential: () => ({ query: `?token=${world.tokens.otherEventToken}` }),
  },
  'another person of the chatbot': {
    kind: 'person',
    credential: () => bearer(world.tokens.otherPersonOfChatbot),
  },
  'a person of another chatbot': {
    kind: 'person',
    credential: () => bearer(world.tokens.personOfOtherChatbot),
  },
  'another owner': { kind: 'owner', credential: () => bearer(stack.ownerToken('user_other')) },
};

/** Those whose thing it is. */
const HOLDERS: Record<string, { kind: Caller; credential: (own: World) => Credential }> = {
  'its owner': { kind: 'owner', credential: () => bearer(stack.ownerToken()) },
  'its guest': { kind: 'guest', credential: (own) => bearer(own.tokens.guest) },
  'the person whose it is': { kind: 'person', credential: (own) => bearer(own.tokens.person) },
  'the holder of its event token': {
    kind: 'watcher',
    credential: (own) => ({ query: `?token=${own.tokens.eventToken}` }),
  },
};

/** RFC 6750: an error where there was a credential, and only there; no quote or backslash in its description. */
const CHALLENGE =
  /^Bearer realm="assistly"(?:, error="invalid_(?:token|request)", error_description="[ !#-[\]-~]+")?$/;

function expectUnauthorized(answer: Sent, route: Route): void {
  expect(answer.status).toBe(401);
  expect(answer.headers.get('www-authenticate')).toMatch(CHALLENGE);
  if (route.method === 'HEAD') return;
  expect(answer.headers.get('content-type')).toMatch(
    route.hasPlainErrors ? /^text\/plain/ : /^application\/problem\+json/,
  );
  expect(answer.body).toMatchObject({ status: 401, code: 'unauthorized' });
}

it('is asked of every route of the application, and the document has no other', () => {
  const router = stack.apis[0]!.app.getHttpAdapter().getInstance().router;
  const routes = (router.stack as { route?: { path: string; methods: Record<string, boolean> } }[]).flatMap(
    ({ route }) =>
      route
        ? Object.keys(route.methods).map(
            (method) => `${method.toUpperCase()} ${route.path.replaceAll(/:(\w+)/g, '{$1}')}`,
          )
        : [],
  );
  // Clerk signs what it tells: e2e/clerk-webhook.
  const signed = ['POST /v1/webhooks/clerk'];
  expect(routes.filter((route) => route.includes(' /v1')).sort()).toEqual(
    [...TESTED.map(nameOf), ...signed].sort(),
  );
});

describe.each(TESTED.map((route) => [nameOf(route), route] as const))('%s', (_name, route) => {
  const ids = (of: World): string[] => idsOf(route, of);
  const isPublic = route.callers.includes('public');

  it(
    isPublic ? 'asks nobody for a credential, nor minds a bad one' : 'is 401 without a good credential',
    async () => {
      for (const [name, credential] of Object.entries(NOBODIES)) {
        const given = credential();
        const answer = await send(route, ids(world), given);

        // What looks like an owner's word for a person is judged where one may be given.
        const isJudged = nameOf(route) === 'POST /v1/chatbots/{id}/sessions' && name.includes('HS256');
        // A credential in the query is a parameter that the route does not know.
        if (isPublic && !isJudged)
          expect(Math.floor(answer.status / 100)).toBe(given.query === undefined ? 2 : 4);
        else expectUnauthorized(answer, route);
      }
    },
  );

  if (isPublic) return;

  const isOf = (kind: Caller) => route.callers.includes(kind);

  it('is 401 for a credential of the wrong kind, be it the thing’s own', async () => {
    const wrong = [...Object.values(HOLDERS), ...Object.values(STRANGERS)].filter(({ kind }) => !isOf(kind));
    for (const { credential } of wrong) {
      const answer = await send(route, ids(world), credential(world));

      expectUnauthorized(answer, route);
    }
  });

  const strangers = Object.entries(STRANGERS).filter(([, { kind }]) => isOf(kind));
  if (route.collections.length > 0) {
    it.each(strangers)('is for %s as if there were no such thing', async (_, { credential }) => {
      const foreign = await send(route, ids(world), credential(), { 'x-request-id': 'same' });

      const missing = await send(
        route,
        ids(world).map(() => randomUUID()),
        credential(),
        { 'x-request-id': 'same' },
      );
      expect(foreign.status).toBe(404);
      expect(foreign.body).toEqual(missing.body);
      const unlike = (headers: Headers): Json =>
        Object.fromEntries([...headers].filter(([name]) => name !== 'date'));
      expect(unlike(foreign.headers)).toEqual(unlike(missing.headers));
      if (route.method !== 'HEAD') expect(foreign.body).toMatchObject({ code: 'not_found' });
    });
  }

  it.each(Object.entries(HOLDERS).filter(([, { kind }]) => isOf(kind)))(
    'is open to %s',
    async (_, { credential }) => {
      const own = await createWorld();

      const answer = await send(route, ids(own), credential(own));

      expect([answer.status, answer.body?.code]).toEqual([expect.any(Number), undefined]);
      expect(Math.floor(answer.status / 100)).toBe(2);
    },
  );
});

describe('what a caller sees', () => {
  it('is of its own chatbots only, when it lists them', async () => {
    const mine = await stack.owner('user_lister').createChatbot();

    const answer = await stack.owner('user_lister').get('/v1/chatbots');

    expect(answer.body.data.map(({ id }: Json) => id)).toEqual([mine.id]);
  });

  it('is nothing of the characteristics of another chatbot, by way of its own', async () => {
    const mine = await stack.owner('user_other').createChatbot();

    const answers = [
      await stack
        .owner('user_other')
        .patch(`/v1/chatbots/${mine.id}/characteristics/${world.characteristicId}`, { content: 'x' }),
      await stack
        .owner('user_other')
        .delete(`/v1/chatbots/${mine.id}/characteristics/${world.characteristicId}`),
    ];

    expect(answers.map(({ status }) => status)).toEqual([404, 404]);
  });
});

const routeOf = (name: string): Route => TESTED.find((route) => nameOf(route) === name)!;
const EVENTS = routeOf('GET /v1/sessions/{id}/events');

describe('the challenge of a refusal', () => {
  const now = (): number => Math.floor(Date.now() / 1000);
  const signed = (changed: object, header: object = RS256): string =>
    jwt(header, claims(changed), rs256(localPrivateKey()));
  const challengeFor = async (authorization?: string, url = stack.apis[0]!.url): Promise<string> => {
    const { status, headers } = await checkedFetch(`${url}/v1/chatbots`, {
      headers: authorization === undefined ? {} : { authorization },
    });
    expect(status).toBe(401);
    return headers.get('www-authenticate')!.replace('Bearer realm="assistly"', '').replace(/^, /, '');
  };
  const invalid = (description: string): string =>
    `error="invalid_token", error_description="${description}"`;

  it.each([
    ['nothing', undefined, ''],
    ['another scheme', 'Basic dXNlcjpwYXNz', ''],
    [
      'no token',
      'Bearer',
      'error="invalid_request", error_description="The header is not of the form: Bearer, a blank, the token"',
    ],
    [
      'two tokens',
      'Bearer a b',
      'error="invalid_request", error_description="The header is not of the form: Bearer, a blank, the token"',
    ],
    ['what is no token', 'Bearer garbage', invalid('The token is not one that this API knows')],
    ['a guest’s token of no session', `Bearer ast_${'a'.repeat(43)}`, invalid('The token is not valid here')],
    ['an API key', 'Bearer ak_secret', invalid('The token is not valid here')],
  ])('says of %s no more than a stranger may know', async (_, authorization, expected) => {
    expect(await challengeFor(authorization)).toBe(expected);
  });

  it.each<[string, () => string, string]>([
    ['has expired', () => signed({ exp: now() - 60 }), 'The token has expired'],
    ['is of the future', () => signed({ nbf: now() + 600 }), 'The token is not valid yet'],
    ['is of a pending session', () => signed({ sts: 'pending' }), 'The session of the token is pending'],
    [
      'is of a session in another state',
      () => signed({ sts: 'revoked' }),
      'The session of the token is pending',
    ],
    [
      'is another key’s',
      () => jwt(RS256, claims({}), rs256(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey)),
      'The token is not valid here',
    ],
    ['is a machine’s', () => signed({ sub: 'mch_1' }), 'The token is not valid here'],
    [
      'is a machine’s by its category',
      () => signed({}, { ...RS256, cat: 'cl_B7d4PD333AAA' }),
      'The token is not valid here',
    ],
    ['is an application’s', () => signed({}, { ...RS256, typ: 'at+jwt' }), 'The token is not valid here'],
    ['names a number', () => signed({ sub: 7 }), 'The token is not valid here'],
    ['names nobody', () => signed({ sub: '' }), 'The token is not valid here'],
  ])('says of a token that %s what it can know', async (_, token, description) => {
    expect(await challengeFor(`Bearer ${token()}`)).toBe(invalid(description));
  });

  it('says of a token that was made for elsewhere nothing of where it would be good', async () => {
    const api = await stack.addApi({ CLERK_AUTHORIZED_PARTIES: 'https://ours.example' });
    expect(await challengeFor(`Bearer ${signed({ azp: 'https://theirs.example' })}`, api.url)).toBe(
      invalid('The token is not valid here'),
    );
    const good = await stack
      .client()
      .at(api.url)
      .as(signed({ azp: 'https://ours.example' }))
      .get('/v1/chatbots');
    expect(good.status).toBe(200);
  });

  it('is none where the session of the token is active, or where the setting takes its kind', async () => {
    const api = await stack.addApi({ CLERK_ACCEPTED_TOKENS: 'session, oauth_token, machine' });
    for (const token of [
      signed({ sts: 'active' }),
      signed({ sub: 'mch_1' }),
      signed({ client_id: 'app' }, { ...RS256, typ: 'at+jwt' }),
    ]) {
      expect((await stack.client().at(api.url).as(token).get('/v1/chatbots')).status).toBe(200);
    }
    expect(await challengeFor(`Bearer ${signed({ sub: 'mch_1' })}`)).toBe(
      invalid('The token is not valid here'),
    );
  });
});

describe('a credential', () => {
  it('is taken whatever the case of its scheme', async () => {
    const answer = await send(routeOf('GET /v1/sessions/{id}'), [world.sessionId], {
      authorization: `bEARER ${world.tokens.guest}`,
    });

    expect(answer.status).toBe(200);
  });

  it('of an owner may be a few seconds ahead of this machine’s clock', async () => {
    const now = Math.floor(Date.now() / 1000);
    const token = jwt(RS256, claims({ nbf: now + 3, iat: now + 3 }), rs256(localPrivateKey()));

    const answer = await stack.client().as(token).get('/v1/chatbots');

    expect(answer.status).toBe(200);
  });

  it('in the header wins over an event token, also where it is a bad one', async () => {
    const answer = await send(EVENTS, [world.sessionId], {
      authorization: 'Bearer garbage',
      query: `?token=${world.tokens.eventToken}`,
    });

    expectUnauthorized(answer, EVENTS);
  });

  it('for events is refused where it is given twice, or changed', async () => {
    const { eventToken } = world.tokens;
    const [, expiry = ''] = /\.(\d+)\./.exec(eventToken) ?? [];
    const queries = [
      `?token=${eventToken}&token=${eventToken}`,
      `?token=${eventToken}x`,
      `?token=${eventToken.replace(expiry, String(Number(expiry) + 60))}`,
      `?token=${eventToken.replace(world.sessionId, randomUUID())}`,
      '?token=',
    ];
    for (const query of queries) {
      const answer = await send(EVENTS, [world.sessionId], { query });

      expectUnauthorized(answer, EVENTS);
    }
  });

  it('for events is good for sixty minutes', async () => {
    const before = Date.now();

    const { body, status } = await stack
      .client()
      .as(world.tokens.guest)
      .post(`/v1/sessions/${world.sessionId}/events/token`);

    expect(status).toBe(201);
    expect(Object.keys(body).sort()).toEqual(['expiresAt', 'token']);
    const lifetimeMs = Date.parse(body.expiresAt) - before;
    expect(lifetimeMs).toBeGreaterThan(59 * 60_000);
    expect(lifetimeMs).toBeLessThanOrEqual(60 * 60_000 + 1_000);
  });
});
