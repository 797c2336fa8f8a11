// What a page shows of the typed client's snapshot.

/** @param {import('assistly-client').ChatSnapshot} snapshot */
export function screenOf({ status, messages, reply, error }) {
  const isMade = reply !== null && (reply.status === 'queued' || reply.status === 'in_progress');
  const isSent = messages.every(({ state }) => state !== 'sending');
  const isBusy = isMade || !isSent || !['open', 'ended'].includes(status);
  const problem = reply?.status === 'failed' ? reply.error : status === 'ended' ? error : null;
  return {
    status: isBusy ? 'busy' : problem ? 'error' : 'ready',
    error: problem?.detail ?? null,
    messages: [
      ...messages.map(({ sender, content }) => ({
        role: sender === 'user' ? 'user' : 'assistant',
        text: content,
      })),
      ...(reply?.text ? [{ role: 'assistant', text: reply.text }] : []),
    ],
  };
}

/** A storage that has the session, and keeps what else it is given. */
export function storageWith(session) {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? (key.endsWith(':unsent') ? null : JSON.stringify(session)),
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}
