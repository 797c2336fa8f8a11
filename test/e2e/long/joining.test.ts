import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { Json } from '../../support/api-client.js';
import { converse, newQuestion } from '../../support/conversations.js';
import { type RawProvider, startRawProvider } from '../../support/raw-provider.js';
import { Stack } from '../../support/stack.js';
import { waitFor } from '../../support/wait.js';

/** Whoever reads what a session holds and follows it from there guesses nothing, and misses nothing. */

let provider: RawProvider;
let stack: Stack;
beforeAll(async () => {
  provider = await startRawProvider();
  stack = await Stack.start({ env: { OPENAI_BASE_URL: provider.baseUrl, OPENAI_MODEL: 'ok' } });
});
afterAll(async () => {
  await stack.stop();
  await provider.close();
});

it('is not missed: list, and follow from the cursor of the list, in a hundred races with posts and answers', async () => {
  const { guest, session } = await converse(stack, 'ok');
  let isOver = false;
  const posting = (async () => {
    while (!isOver) {
      const { reply } = await guest.postMessage(session.id, newQuestion());
      await guest.finalReply(reply.id);
    }
  })();
  for (let [race, looks] = [0, 0]; race < 100; looks++) {
    const listed = await guest.get(`/v1/sessions/${session.id}/messages?order=desc&limit=20`);
    const after = listed.headers.get('x-event-cursor');
    // Where a busy event stream does not tell it in time there is none, and who joins asks for a snapshot.
    if (after === null && looks < 1_000) continue;
    race++;
    const known = new Map<string, Json>(listed.body.data.map((message: Json) => [message.id, message]));
    const { message } = await guest.postMessage(session.id, newQuestion());
    const stream = guest.follow(session.id, { after: after ?? 'never' });
    await waitFor('the post', () => stream.events.some(({ data }) => data.message?.id === message.id));
    const all = (await guest.get(`/v1/sessions/${session.id}/messages?order=desc&limit=20`)).body
      .data as Json[];
    const before = all.filter(({ sequence }) => sequence <= message.sequence);
    // Two that are posted at once are told in either order, so one of before may come after this one.
    await waitFor('all that was posted before', () => {
      for (const { data } of stream.events) if (data.message) known.set(data.message.id, data.message);
      return before.every(({ id }) => known.has(id));
    });
    expect(stream.events.map(({ event }) => event)).not.toContain('session.snapshot');
    await stream.close();
  }
  isOver = true;
  await posting;
});
