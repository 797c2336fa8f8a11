// A native EventSource and posts by fetch, without a package: what the guide shows (src/openapi/guide.md), with a page
// around it.
import { session } from './page.js';

const { api, sessionId, token } = session;
/** By id; a reply's text stands where its message will. @type {Map<string, { role: string, text: string }>} */
const shown = new Map();
/** @type {Map<string, { attempt: number, isFinal: boolean }>} */
const replies = new Map();
let isJoined = false;
let error = null;

async function call(method, path, body) {
  const response = await fetch(api + path, {
    method,
    headers: { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

const keep = ({ id, replyId, sender, content }) =>
  shown.set(sender === 'ai' ? (replyId ?? id) : id, {
    role: sender === 'ai' ? 'assistant' : 'user',
    text: content,
  });
const keepReply = ({ id, attempt, finishedAt }) => replies.set(id, { attempt, isFinal: finishedAt !== null });

function apply(event, data) {
  switch (event) {
    case 'session.snapshot':
      shown.clear();
      replies.clear();
      data.messages.filter(({ supersededBy }) => supersededBy === null).forEach(keep);
      for (const reply of data.replies) {
        keepReply(reply);
        if (reply.text) shown.set(reply.id, { role: 'assistant', text: reply.text });
      }
      isJoined = true;
      break;
    case 'message.created':
      keep(data.message);
      break;
    case 'reply.queued':
      if (!replies.has(data.reply.id)) keepReply(data.reply);
      break;
    case 'reply.started':
      if (data.attempt > (replies.get(data.replyId)?.attempt ?? 0)) {
        replies.set(data.replyId, { attempt: data.attempt, isFinal: false });
        shown.delete(data.replyId);
      }
      break;
    case 'reply.delta':
      if (replies.get(data.replyId)?.attempt === data.attempt) {
        const before = shown.get(data.replyId)?.text ?? '';
        shown.set(data.replyId, { role: 'assistant', text: before.slice(0, data.offset) + data.text });
      }
      break;
    case 'reply.completed':
    case 'reply.cancelled':
    case 'reply.failed':
      keepReply(data.reply);
      for (const id of data.superseded ?? []) shown.delete(id);
      if (data.message) keep(data.message);
      error = data.reply.error?.detail ?? null;
      break;
  }
  render();
}

async function watch(cursor) {
  const { token: eventToken } = await call('POST', `/v1/sessions/${sessionId}/events/token`);
  const query = new URLSearchParams({ token: eventToken, after: cursor });
  const source = new EventSource(`${api}/v1/sessions/${sessionId}/events?${query.toString()}`);
  for (const event of [
    'message.created',
    'reply.queued',
    'reply.started',
    'reply.delta',
    'reply.completed',
    'reply.cancelled',
    'reply.failed',
    'session.snapshot',
  ]) {
    source.addEventListener(event, ({ data, lastEventId }) => {
      cursor = lastEventId;
      apply(event, JSON.parse(data));
    });
  }
  source.addEventListener('error', () => {
    // Otherwise it is coming back. Closed for good: the token has ended, so get another and go on.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => void watch(cursor), 2000);
  });
}

function render() {
  const isBusy = !isJoined || [...replies.values()].some(({ isFinal }) => !isFinal);
  document.querySelector('main').dataset.status = isBusy ? 'busy' : error ? 'error' : 'ready';
  document.querySelector('main').replaceChildren(
    ...[...shown.values()].map(({ role, text }) => {
      const line = document.createElement('p');
      line.dataset.role = role;
      line.textContent = text;
      return line;
    }),
    ...(error ? [Object.assign(document.createElement('p'), { role: 'alert', textContent: error })] : []),
  );
}

document.getElementById('root').innerHTML =
  '<main></main><form><input aria-label="Message" /><button>Send</button><button type="button">Stop</button></form>';
const [form, input] = document.querySelectorAll('form, input');
form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const content = input.value;
  input.value = '';
  try {
    await call('POST', `/v1/sessions/${sessionId}/messages`, {
      content,
      clientMessageId: crypto.randomUUID(),
    });
  } catch (refusal) {
    error = refusal.message;
    render();
  }
});
document.querySelector('button[type=button]').addEventListener('click', () => {
  for (const [id, { isFinal }] of replies) if (!isFinal) void call('POST', `/v1/replies/${id}/cancel`);
});
await watch('snapshot');
