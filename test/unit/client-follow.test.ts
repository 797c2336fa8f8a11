import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { follow } from '../../client/dist/follow.js';
import { Pauses } from '../../client/dist/pauses.js';
import type { ChatProblem } from '../../client/dist/problem.js';
import { TIMINGS } from '../../client/dist/timings.js';

/** How the client holds a stream, by a clock that the test moves. */

const encoder = new TextEncoder();

/** A server of streams: each connection is one that the test feeds and ends. */
function startStreams() {
  const connections: {
    after: string | null;
    at: number;
    isLeft: boolean;
    feed: (text: string) => void;
    end: () => void;
  }[] = [];
  const answers: (Response | Error)[] = [];
  const connect = (after: string | null, signal: AbortSignal): Promise<Response> => {
    const answer = answers.shift();
    let controller!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (given) => void (controller = given) });
    const connection = {
      after,
      at: Date.now(),
      isLeft: false,
      feed: (text: string) => controller.enqueue(encoder.encode(text)),
      end: () => controller.close(),
    };
    signal.addEventListener('abort', () => {
      connection.isLeft = true;
      try {
        controller.error(new Error('aborted'));
      } catch {
        // it had ended
      }
    });
    connections.push(connection);
    if (answer instanceof Error) return Promise.reject(answer);
    return Promise.resolve(answer ?? new Response(body));
  };
  return { connections, answers, connect };
}

const refusal = (status: number, headers: Record<string, string> = {}): Response =>
  Response.json({ code: 'a_code', detail: 'A reason.' }, { status, headers });

const closing: AbortController[] = [];
afterEach(() => {
  for (const one of closing.splice(0)) one.abort();
  jest.useRealTimers();
});

function start({ events = [] as unknown[] } = {}) {
  jest.useFakeTimers();
  const { connections, answers, connect } = startStreams();
  const abort = new AbortController();
  closing.push(abort);
  const pauses = new Pauses();
  const cursors: string[] = [];
  const downs: (ChatProblem | null)[] = [];
  let ended: ChatProblem | null | undefined;
  const begin = (): void => {
    void follow({
      connect,
      cursor: null,
      onEvent: (event) => {
        events.push(event);
        return (event.data as { isGap?: boolean }).isGap ? 'resync' : undefined;
      },
      onCursor: (cursor) => cursors.push(cursor),
      onUp: () => undefined,
      onDown: (problem) => downs.push(problem),
      pauses,
      timings: TIMINGS,
      signal: abort.signal,
    }).then((problem) => {
      ended = problem;
    });
  };
  return { connections, answers, abort, pauses, cursors, downs, events, begin, ended: () => ended };
}

const pass = (ms = 0): Promise<void> => jest.advanceTimersByTimeAsync(ms);

describe('a stream', () => {
  it('begins with a snapshot, and goes on after the last id, also one that came alone', async () => {
    const { connections, cursors, events, begin } = start();
    begin();
    await pass();
    expect(connections[0]!.after).toBeNull();

    connections[0]!.feed('retry: 2000\n\nid: c1\n\n');
    await pass();
    connections[0]!.end();
    await pass(500);
    connections[1]!.feed('id: c1\n\nid: c2\nevent: reply.started\ndata: {"replyId":"r"}\n\n');
    await pass();
    connections[1]!.end();
    await pass(500);

    expect(connections.map(({ after }) => after)).toEqual([null, 'c1', 'c2']);
    expect(cursors).toEqual(['c1']);
    expect(events).toEqual([{ id: 'c2', event: 'reply.started', data: { replyId: 'r' } }]);
  });

  it('takes no half of an event, nor its id', async () => {
    const { connections, events, begin } = start();
    begin();
    await pass();
    connections[0]!.feed('id: c1\n\nid: c2\nevent: reply.started\ndata: {"rep');
    await pass();
    connections[0]!.end();
    await pass(500);

    expect(events).toEqual([]);
    expect(connections[1]!.after).toBe('c1');
  });

  it('is given up after 40 silent seconds, and not while comments come', async () => {
    const { connections, begin } = start();
    begin();
    await pass();
    for (let minute = 0; minute < 4; minute++) {
      await pass(15_000);
      connections[0]!.feed(': keep-alive\n\n');
    }
    expect(connections).toHaveLength(1);

    await pass(46_000);

    expect(connections[0]!.isLeft).toBe(true);
    expect(connections).toHaveLength(2);
  });

  it('is given up at once after a sleep, and not where only the timers are late', async () => {
    const { connections, begin } = start();
    begin();
    await pass(5_000);
    connections[0]!.feed(': keep-alive\n\n');
    await pass(5_000);
    jest.setSystemTime(Date.now() + 20_000); // shorter than the silence that is allowed
    await pass(5_500);
    expect(connections).toHaveLength(2);

    await pass(5_000);
    jest.setSystemTime(Date.now() + 20_000);
    connections[1]!.feed(': keep-alive\n\n');
    await pass(5_500);
    expect(connections).toHaveLength(2);
  });

  it('is opened again at once when the device is online, or the page seen after some silence', async () => {
    const { connections, pauses, begin } = start();
    begin();
    await pass(1_000);
    pauses.wake(false);
    await pass();
    expect(connections).toHaveLength(1); // it is fresh

    pauses.wake(true);
    await pass();
    expect(connections).toHaveLength(2);

    await pass(21_000);
    pauses.wake(false);
    await pass();
    expect(connections).toHaveLength(3);
  });

  it('comes back after ever longer pauses, half a second to half a minute, and soon after one that was good', async () => {
    const { connections, answers, begin, downs } = start();
    for (let failures = 0; failures < 10; failures++) answers.push(new TypeError('Failed to fetch'));
    begin();
    while (connections.length < 11) await pass(100);

    const pauses = connections.slice(1, 11).map(({ at }, index) => at - connections[index]!.at);
    for (const [index, pause] of pauses.entries()) {
      const most = Math.min(30_000, 500 * 2 ** index);
      expect(pause).toBeGreaterThanOrEqual(most / 2);
      expect(pause).toBeLessThanOrEqual(most);
    }
    expect(downs).toHaveLength(10);
    expect(downs[0]).toEqual({ code: 'network', detail: 'Failed to fetch', status: 0 });

    connections[10]!.feed('id: c1\nevent: reply.started\ndata: {}\n\n');
    await pass();
    connections[10]!.end();
    await pass(500);
    expect(connections).toHaveLength(12);
  });

  it.each([429, 503])('waits as long as a %i asks for, also when woken', async (status) => {
    const { connections, answers, begin, pauses } = start();
    answers.push(refusal(status, { 'Retry-After': '7' }));
    begin();
    await pass(6_900);
    pauses.wake(true);
    await pass();
    expect(connections).toHaveLength(1);

    await pass(200);

    expect(connections).toHaveLength(2);
  });

  it('waits as long as a server asks for that stops', async () => {
    const { connections, begin } = start();
    begin();
    await pass();
    connections[0]!.feed('retry: 2000\n\nid: c1\n\nretry: 1700\n\n');
    await pass();
    connections[0]!.end();
    await pass(1_600);
    expect(connections).toHaveLength(1);
    await pass(200);
    expect(connections).toHaveLength(2);
  });

  it.each([401, 403, 404])('ends with a %i, which it gives', async (status) => {
    const { answers, begin, ended } = start();
    answers.push(refusal(status));
    begin();
    await pass();

    expect(ended()).toEqual({ code: 'a_code', detail: 'A reason.', status });
  });

  it('ends with session.deleted', async () => {
    const { connections, begin, ended } = start();
    begin();
    await pass();
    connections[0]!.feed('id: c1\nevent: session.deleted\ndata: {}\n\n');
    await pass();

    expect(ended()).toBeNull();
    expect(connections[0]!.isLeft).toBe(true);
  });

  it('begins again with a snapshot where something is missing', async () => {
    const { connections, begin } = start();
    begin();
    await pass();
    connections[0]!.feed('id: c1\nevent: reply.delta\ndata: {"isGap":true}\n\n');
    await pass(500);

    expect(connections.map(({ after }) => after)).toEqual([null, null]);
    expect(connections[0]!.isLeft).toBe(true);
  });
});
