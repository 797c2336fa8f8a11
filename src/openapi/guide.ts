import { type ProblemCode, PROBLEMS } from '../runtime/app-error.js';
import { EVENT_DESCRIPTIONS } from '../session-events/session-event.dto.js';
import { EXAMPLES } from './examples.js';

/**
 * What `/docs` opens with: from nothing to a streamed reply. Its JavaScript is one program, which a test runs
 * (guide.test.ts).
 */

/** What a front end does about each error. */
const ADVICE: Record<ProblemCode, string> = {
  invalid_request: 'Show `errors` beside the fields that their `pointer`s name.',
  malformed_json: 'A bug in the client.',
  invalid_cursor: 'Start the list again without a cursor.',
  unauthorized: 'Get a fresh token. For a guest: the session is gone; open another.',
  not_found: 'It is not there, or not yours; the two look the same.',
  reply_not_retryable: 'Hide the button: it is not the latest reply, or it is not failed or cancelled.',
  idempotency_in_progress: 'Send the same again after `Retry-After` seconds.',
  limit_reached: 'Something must be deleted first.',
  payload_too_large: 'Bodies are at most 128 KiB.',
  unsupported_media_type: 'Send `Content-Type: application/json`.',
  idempotency_key_reused: 'A bug in the client: a new request needs a new key.',
  internal_error: 'Say sorry, and show the `requestId`, with which it is found in the logs.',
  service_unavailable: 'Try again, after `Retry-After` seconds where the answer says so.',
};

const PROBLEM_TABLE = Object.entries(PROBLEMS)
  .map(([code, { status }]) => `| ${status} | \`${code}\` | ${ADVICE[code as ProblemCode]} |`)
  .join('\n');

const EVENT_TABLE = Object.entries(EVENT_DESCRIPTIONS)
  .map(([type, description]) => {
    const fields = Object.keys(EXAMPLES.events[type]?.data ?? {}).join(', ');
    return `| \`${type}\` | \`{ ${fields} }\` | ${description} |`;
  })
  .join('\n')
  .replaceAll('{  }', '{}');

export const GUIDE = `
Chatbots for owners, conversations for guests. An owner describes a chatbot in plain sentences; a guest opens a session
and writes. Posting a message stores it together with the *reply* to come, and answers at once; a worker then
generates the text, and everybody who watches the session sees it as it is written.

Below: *Who is calling*, *Try it on this page*, *From code* (create, open, post, stream, poll, stop, retry),
*Events*, *Errors*, *What to rely on*; then every operation, with real answers.

## Who is calling

| caller | credential | may |
| --- | --- | --- |
| owner | \`Authorization: Bearer <Clerk session JWT>\` | everything of its own chatbots and their sessions |
| guest | \`Authorization: Bearer <session token>\`, given once when the session opens | that session |
| anybody | none | see a chatbot's public face, open a session |

**An owner token.** In your front end it is what Clerk gives you: \`await Clerk.session.getToken()\`, or \`getToken()\` of
React's \`useAuth()\`. Where no Clerk is configured, as after \`npm start\` in a clone, the start prints one, and
\`npm run -s token -- user_123\` makes one for any user id.

**A guest token** is the \`token\` in the answer of *Open a session*. Keep it with the page: nobody
can ask for it again.

**Your page's origin** must be allowed where it is not the API's: \`CORS_ORIGINS=http://localhost:5173 npm start\`.

## Try it on this page

The operations stand below the guide.

1. Press **Authorize**, paste an owner token under *owner*, press its *Authorize*, then *Close*.
2. *Create a chatbot*, \`POST /v1/chatbots\`: press **Execute**. Copy the \`id\` of the answer.
3. *Open a session with a chatbot*, \`POST /v1/chatbots/{id}/sessions\`: paste it as \`id\`, Execute. Copy \`session.id\` and
   \`token\`. Press **Authorize** again, and paste the token under *guest*: in this session you are Ada now.
4. *Post a message*, \`POST /v1/sessions/{id}/messages\`: paste the session's id, Execute. Copy the id of the
   \`reply\`, and the response header \`x-event-cursor\`.
5. *Follow the session’s events*, \`GET /v1/sessions/{id}/events\`: paste the session's id, and the cursor as
   \`after\`; Execute. This page shows an answer when it has ended, so it leaves the stream when a reply has ended, or
   after ten seconds. To see it stream, word by word, use a terminal:

~~~sh
curl -N "http://localhost:3000/v1/sessions/<session id>/events?after=<cursor>" -H "Authorization: Bearer <guest token>"
~~~

6. *Read a reply*, \`GET /v1/replies/{id}\`, with the reply's id: it is completed, and names its message, which
   *List the messages of a session* shows.

## From code

These pieces make one program. It runs in the console of this page and, as a file \`try.mjs\`, in Node.js (where
\`EventSource\` needs \`node --experimental-eventsource try.mjs\`).

**Create a chatbot and open a session.** An \`Idempotency-Key\` makes it safe to send a request again after a broken
connection: the same key does nothing twice.

~~~js
const api = 'http://localhost:3000'; // where this page comes from
const ownerToken = '<owner token>';

async function call(method, path, token, body, headers) {
  const response = await fetch(api + path, {
    method,
    headers: {
      ...(token && { Authorization: 'Bearer ' + token }),
      ...(body && { 'Content-Type': 'application/json' }),
      ...headers,
    },
    body: body && JSON.stringify(body),
  });
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail), answer); // .code, .status, .errors, .requestId
  return { answer, cursor: response.headers.get('X-Event-Cursor') };
}

const { answer: chatbot } = await call(
  'POST',
  '/v1/chatbots',
  ownerToken,
  {
    name: 'Bakery',
    greeting: 'Hello {name}!',
    characteristics: ['We are open from 7 to 18, Monday to Saturday.'],
  },
  { 'Idempotency-Key': crypto.randomUUID() },
);

const { answer: opened } = await call('POST', '/v1/chatbots/' + chatbot.id + '/sessions', null, {
  guest: { name: 'Ada' },
});
const { session, token } = opened; // the greeting is in opened.messages
~~~

**Keep what is shown**, whichever way the events come. Four rules: a *higher attempt* begins the text anew; a delta
belongs at its *offset*; a *snapshot* replaces everything; what is unknown is ignored.

~~~js
const shown = new Map(); // reply id → { attempt, text, reply }

function apply({ event, data }) {
  switch (event) {
    case 'session.snapshot':
      shown.clear();
      for (const reply of data.replies) {
        const message = data.messages.find(({ id }) => id === reply.messageId);
        shown.set(reply.id, { attempt: reply.attempt, text: message?.content ?? reply.text ?? '', reply });
      }
      break;
    case 'reply.queued':
      if (!shown.has(data.reply.id)) shown.set(data.reply.id, { attempt: 0, text: '', reply: data.reply });
      break;
    case 'reply.started':
      if (data.attempt > (shown.get(data.replyId)?.attempt ?? 0)) {
        shown.set(data.replyId, { attempt: data.attempt, text: '' });
      }
      break;
    case 'reply.delta': {
      const now = shown.get(data.replyId);
      if (now?.attempt === data.attempt) now.text = now.text.slice(0, data.offset) + data.text;
      break;
    }
    case 'reply.completed':
    case 'reply.cancelled':
    case 'reply.failed':
      shown.set(data.reply.id, {
        attempt: data.reply.attempt,
        text: data.message?.content ?? '',
        reply: data.reply, // .status is final; of a failed one, .error says why
      });
      break;
  }
}
~~~

**Stream with fetch**, which can send the token in a header. Every event's \`id\` is a cursor: opened with
\`?after=\` it, the stream continues right after that event, on any server. So a stream that ends, and each ends after 15
minutes at the latest, is simply opened again.

~~~js
async function* follow(sessionId, token, cursor) {
  for (;;) {
    const leaving = new AbortController();
    try {
      const url = api + '/v1/sessions/' + sessionId + '/events?after=' + cursor;
      const response = await fetch(url, {
        headers: { Authorization: 'Bearer ' + token },
        signal: leaving.signal,
      });
      if (response.status === 401 || response.status === 404) return; // the session is gone
      if (!response.ok) throw new Error('status ' + response.status);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (rest + part.value).split('\\n\\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const field = Object.fromEntries(block.split('\\n').map((line) => line.split(/: (.*)/)));
          if (field.id) cursor = field.id;
          if (field.data) yield { event: field.event, data: JSON.parse(field.data) };
          if (field.event === 'session.deleted') return;
        }
      }
    } catch {
      // The connection broke: come back.
    } finally {
      leaving.abort(); // also when the loop that reads these events ends
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

const { answer: posted, cursor } = await call(
  'POST',
  '/v1/sessions/' + session.id + '/messages',
  token,
  { content: 'When are you open?' },
  { 'Idempotency-Key': crypto.randomUUID() },
);
for await (const event of follow(session.id, token, cursor)) {
  apply(event);
  console.log(event.event, shown.get(posted.reply.id)?.text ?? '');
  if (event.data.reply?.id === posted.reply.id && event.data.reply.finishedAt) break;
}
~~~

**Or with a native EventSource**, which cannot send headers: it gets a token of its own, good for reading this
session's events for sixty minutes. It comes back by itself, with the last id.

~~~js
async function watch(sessionId, token, cursor) {
  const { answer } = await call('POST', '/v1/sessions/' + sessionId + '/events/token', token);
  const query = new URLSearchParams({ token: answer.token, after: cursor });
  const source = new EventSource(api + '/v1/sessions/' + sessionId + '/events?' + query);
  for (const event of [
    'message.created',
    'reply.queued',
    'reply.started',
    'reply.delta',
    'reply.completed',
    'reply.cancelled',
    'reply.failed',
    'session.snapshot',
    'session.deleted',
  ]) {
    source.addEventListener(event, ({ data, lastEventId }) => {
      cursor = lastEventId;
      apply({ event, data: JSON.parse(data) });
      if (event === 'session.deleted') source.close();
    });
  }
  source.addEventListener('error', () => {
    // Otherwise it is coming back. Closed for good: the token has ended, so get another and go on.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => watch(sessionId, token, cursor), 2000);
  });
  return source;
}

const source = await watch(session.id, token, cursor);
~~~

**Or poll**: with \`wait\`, the answer comes as soon as the reply is final, or after that many seconds. An unfinished
reply is simply asked for again.

~~~js
let { answer: reply } = await call('GET', '/v1/replies/' + posted.reply.id + '?wait=30', token);
while (!reply.finishedAt) {
  ({ answer: reply } = await call('GET', '/v1/replies/' + reply.id + '?wait=30', token));
}
const { answer: page } = await call('GET', '/v1/sessions/' + session.id + '/messages?order=desc', token);
console.log(reply.status, page.data.find(({ id }) => id === reply.messageId)?.content);
~~~

**Stop it, ask again.** Leaving stops nothing; cancelling does, and keeps what was shown so far as the message. A reply
that failed or was cancelled can be asked for again while it is the session's latest.

~~~js
const { answer: second } = await call('POST', '/v1/sessions/' + session.id + '/messages', token, {
  content: 'And on Sundays?',
});
const { answer: stopped } = await call('POST', '/v1/replies/' + second.reply.id + '/cancel', token);
console.log(stopped.status); // cancelled; or completed, where it was too late
if (stopped.status === 'cancelled') {
  const { answer: again } = await call('POST', '/v1/replies/' + stopped.id + '/retry', token);
  const { answer: end } = await call('GET', '/v1/replies/' + again.id + '?wait=30', token);
  console.log(end.status, end.retryOf === stopped.id);
}
source.close();
~~~

## Events

| event | data | meaning |
| --- | --- | --- |
${EVENT_TABLE}

## Errors

Every error is an RFC 9457 problem document, \`application/problem+json\`: branch on \`code\`, show \`detail\`.

| status | code | what to do |
| --- | --- | --- |
${PROBLEM_TABLE}

A reply that *failed* is no error of a request: its \`error.code\` says why, and \`retryReply\` asks again.

## What to rely on

- Ids are UUIDv7. Times are ISO 8601 in UTC with milliseconds. Unknown fields of a request are refused.
- Names and e-mail addresses are trimmed, contents are kept as sent; a blank counts as missing. Lengths count Unicode
  code points.
- A list answers \`{ data, nextCursor }\`; ask with \`?cursor=\` for the next page, until it is null.
- A message that was accepted gets its answer once. One that is posted while a reply is queued joins it: the same
  reply answers both.
- Ignore fields, event types, senders and statuses that you do not know: within v1 things are only added.
`.trim();
