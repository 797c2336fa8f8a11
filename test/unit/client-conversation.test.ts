import { describe, expect, it } from '@jest/globals';
import {
  applyEvent,
  type Conversation,
  currentReply,
  EMPTY,
  withReply,
  withSnapshot,
} from '../../client/dist/conversation.js';
import { toSnapshot } from '../../client/dist/view.js';
import type { Message, Reply, SessionEvent } from '../../client/dist/wire.js';

/** How the client's picture of a session follows from its events, in whatever order and how often they come. */

const reply = (change: Partial<Reply> = {}): Reply => ({
  id: 'r1',
  chatSessionId: 's',
  status: 'queued',
  messageId: null,
  retryOf: null,
  attempt: 0,
  model: null,
  finishReason: null,
  usage: null,
  error: null,
  createdAt: '2026-11-27T00:00:00.000Z',
  startedAt: null,
  firstTokenAt: null,
  finishedAt: null,
  characteristicsUsed: null,
  ...change,
});

const message = (sequence: number, change: Partial<Message> = {}): Message => ({
  id: `m${sequence}`,
  chatSessionId: 's',
  sequence,
  sender: 'user',
  content: `Line ${sequence}`,
  replyId: 'r1',
  clientMessageId: null,
  supersededBy: null,
  createdAt: '2026-11-27T00:00:00.000Z',
  ...change,
});

const event = (type: string, data: object): SessionEvent =>
  ({ id: 'c', event: type, data }) as unknown as SessionEvent;
const queued = event('reply.queued', { reply: reply() });
const started = (attempt: number): SessionEvent => event('reply.started', { replyId: 'r1', attempt });
const delta = (offset: number, text: string, attempt = 1): SessionEvent =>
  event('reply.delta', { replyId: 'r1', attempt, offset, text });
const retrying = (attempt: number): SessionEvent =>
  event('reply.retrying', { replyId: 'r1', attempt, reason: 'worker_lost', retryAt: null });
const answer = message(2, { sender: 'ai', content: 'We are open.' });
const completed = event('reply.completed', {
  reply: reply({ status: 'completed', messageId: 'm2' }),
  message: answer,
  superseded: [],
});

const after = (...events: SessionEvent[]): Conversation => events.reduce(applyEvent, EMPTY);
const textAfter = (...events: SessionEvent[]): string | undefined => currentReply(after(...events))?.text;

describe('the text of a reply', () => {
  it('is its deltas, one after the other', () => {
    expect(textAfter(queued, started(1), delta(0, 'We '), delta(3, 'are'))).toBe('We are');
  });

  it('has nothing twice that comes twice, in whole or in part', () => {
    expect(textAfter(started(1), delta(0, 'We '), delta(0, 'We '), delta(3, 'are'))).toBe('We are');
    expect(textAfter(started(1), delta(0, 'We are'), delta(3, 'are open'), delta(0, 'We '))).toBe(
      'We are open',
    );
  });

  it('counts as JavaScript does, in UTF-16 units', () => {
    expect(textAfter(started(1), delta(0, '😀'), delta(2, '!'))).toBe('😀!');
  });

  it('begins anew with a higher attempt, and takes nothing of a lower one', () => {
    const events = [started(1), delta(0, 'Wrong'), started(2)];
    expect(textAfter(...events)).toBe('');
    expect(textAfter(...events, delta(5, ' again', 1), delta(0, 'Right', 2))).toBe('Right');
    expect(textAfter(...events, started(1), delta(0, 'Right', 2))).toBe('Right');
  });

  it('stays while there is a pause, which is told until the next attempt starts', () => {
    const paused = after(started(1), delta(0, 'We'), retrying(1));
    expect(currentReply(paused)).toMatchObject({
      text: 'We',
      delay: { reason: 'worker_lost', retryAt: null },
    });
    expect(currentReply(applyEvent(paused, started(2)))).toMatchObject({ text: '', delay: null });
    expect(currentReply(after(started(2), retrying(1)))).toMatchObject({ delay: null });
  });

  it('is shown with the pause that a snapshot tells', () => {
    const delay = { reason: 'provider_timeout', retryAt: '2026-11-27T10:00:00.000Z' } as const;
    const snapshot = event('session.snapshot', {
      messages: [message(1)],
      replies: [{ ...reply({ status: 'in_progress', attempt: 1 }), text: 'We', delay }],
    });
    const paused = applyEvent(EMPTY, snapshot);
    expect(currentReply(paused)).toMatchObject({ text: 'We', delay });
    expect(currentReply(applyEvent(paused, started(2)))).toMatchObject({ delay: null });
  });

  it('is asked for again where a piece is missing', () => {
    const gap = after(started(1), delta(3, 'are'));
    expect(gap.hasGap).toBe(true);
    const snapshot = event('session.snapshot', {
      messages: [message(1)],
      replies: [{ ...reply({ status: 'in_progress', attempt: 1 }), text: 'We are' }],
    });
    expect(applyEvent(gap, snapshot)).toMatchObject({ hasGap: false });
    expect(currentReply(applyEvent(gap, snapshot))!.text).toBe('We are');
  });

  it('gives way to its message, whichever is known first', () => {
    const running = after(queued, started(1), delta(0, 'We are'));
    expect(currentReply(applyEvent(running, completed))).toMatchObject({ status: 'completed', text: '' });
    const toldByCancel = withReply(running, reply({ status: 'cancelled' }));
    expect(currentReply(toldByCancel)).toMatchObject({ status: 'cancelled', text: 'We are' });
    const ended = event('reply.cancelled', { reply: reply({ status: 'cancelled' }), message: answer });
    expect(currentReply(applyEvent(toldByCancel, ended))).toMatchObject({ text: '' });
  });

  it('is dropped where the reply fails', () => {
    const failed = event('reply.failed', { reply: reply({ status: 'failed' }), message: null });
    expect(currentReply(after(started(1), delta(0, 'We'), failed))).toMatchObject({
      status: 'failed',
      text: '',
    });
  });
});

describe('a final reply', () => {
  it('stays as it is, whatever comes late', () => {
    const ended = after(queued, completed);
    for (const late of [queued, started(2), delta(0, 'x', 2), retrying(3)]) {
      expect(applyEvent(ended, late)).toBe(ended);
    }
  });
});

describe('an event that tells nothing new', () => {
  it('changes nothing, not even the object', () => {
    const now = after(event('message.created', { message: message(1) }), queued, started(1), delta(0, 'We'));
    for (const again of [
      event('message.created', { message: message(1) }),
      queued,
      started(1),
      delta(0, 'We'),
      event('session.renamed', {}),
    ]) {
      expect(applyEvent(now, again)).toBe(now);
    }
  });
});

describe('the reply that is shown', () => {
  it('is the first that is not final, else the last', () => {
    const second = event('reply.queued', { reply: reply({ id: 'r2' }) });
    expect(currentReply(after(queued, started(1), second))!.id).toBe('r1');
    expect(currentReply(after(queued, second, completed))!.id).toBe('r2');
    expect(currentReply(after(queued, completed))!.id).toBe('r1');
  });
});

describe('the messages', () => {
  const created = (sequence: number): SessionEvent =>
    event('message.created', { message: message(sequence) });

  it('stand in the order of their sequence, whichever comes first', () => {
    expect(after(created(3), created(1), created(2)).messages.map(({ sequence }) => sequence)).toEqual([
      1, 2, 3,
    ]);
  });

  it('that a new answer takes the place of are marked', () => {
    const before = after(created(1), completed);
    const regenerated = event('reply.completed', {
      reply: reply({ id: 'r2', retryOf: 'r1', status: 'completed' }),
      message: message(3, { sender: 'ai', replyId: 'r2' }),
      superseded: ['m2'],
    });

    const { messages } = applyEvent(before, regenerated);

    expect(messages.map(({ supersededBy }) => supersededBy)).toEqual([null, 'r2', null]);
    expect(messages[0]!.replyId).toBe('r2');
  });

  it('of a snapshot join those that are here, unless there is a hole between', () => {
    const here = after(created(1), created(2));
    const snapshot = (...sequences: number[]): Conversation =>
      withSnapshot(
        here,
        sequences.map((sequence) => message(sequence)),
        [],
      );

    expect(snapshot(2, 3).messages.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(snapshot(3, 4).messages.map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4]);
    expect(snapshot(4, 5).messages.map(({ sequence }) => sequence)).toEqual([4, 5]);
    expect(snapshot(1, 2).messages[0]).toBe(here.messages[0]); // the same object as long as it says the same
  });
});

describe('a snapshot', () => {
  const snapshot = (text: string, attempt = 1): SessionEvent =>
    event('session.snapshot', {
      messages: [],
      replies: [{ ...reply({ status: 'in_progress', attempt }), text }],
    });

  it('takes nothing away of the same attempt, and all of another', () => {
    const running = after(started(1), delta(0, 'We are'));
    expect(currentReply(applyEvent(running, snapshot('We')))!.text).toBe('We are');
    expect(currentReply(applyEvent(running, snapshot('We are open')))!.text).toBe('We are open');
    expect(currentReply(applyEvent(running, snapshot('Yes', 2)))!.text).toBe('Yes');
  });

  it('that holds the message of a reply which it has as unfinished shows the text once', () => {
    const both = applyEvent(
      EMPTY,
      event('session.snapshot', {
        messages: [message(2, { sender: 'ai', replyId: 'r1', content: 'We are open' })],
        replies: [{ ...reply({ status: 'in_progress', attempt: 1 }), text: 'We are' }],
      }),
    );
    const shown = (conversation: Conversation) => {
      const { messages, reply: now } = toSnapshot({
        status: 'open',
        error: null,
        history: [],
        conversation,
        unsent: [],
      });
      return [...messages.map(({ content }) => content), now?.text];
    };
    expect(shown(both)).toEqual(['We are open', '']);
    // What follows says its offset in the text that there was.
    const next = applyEvent(both, delta(6, ' open'));
    expect([next.hasGap, ...shown(next)]).toEqual([false, 'We are open', '']);
  });

  it('keeps an end that is known, and a reply that is newer than it', () => {
    const ended = after(queued, completed, event('reply.queued', { reply: reply({ id: 'r2' }) }));
    const now = applyEvent(ended, snapshot('We'));
    expect(now.replies.map(({ id, status }) => [id, status])).toEqual([
      ['r1', 'completed'],
      ['r2', 'queued'],
    ]);
  });
});
