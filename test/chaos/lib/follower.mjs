import { setTimeout as sleep } from 'node:timers/promises';
import { createParser } from 'eventsource-parser';

const UNKNOWN = 'unknown0-0';
const FINAL = new Set(['completed', 'failed', 'cancelled']);

/**
 * A client of a session's events as the contract describes it: it comes back with the last id it has, to any api,
 * applies by id, and drops a reply's text when a higher attempt begins. Whatever the contract rules out it notes
 * as a violation: a hole, a repetition, a delta that does not fit, an end that is not the text shown.
 */
export class Follower {
  /** What was seen, shortened: for who has to find out why. */
  trace = [];
  violations = [];
  snapshots = 0;
  connections = 0;
  events = 0;
  /** Message id → content. */
  messages = new Map();
  /** Reply id → { attempt, text, status, isShown }: `isShown` where every delta was seen. */
  replies = new Map();

  /**
   * @param {object} options
   * @param {string} options.sessionId
   * @param {string} options.token
   * @param {string} options.cursor the X-Event-Cursor of the session's opening
   * @param {() => string} options.pickUrl an api that probably lives
   * @param {import('./random.mjs').Random} options.random
   * @param {number} options.cutAfterMs how long a connection lives on average; Infinity: it is not cut
   * @param {(reply: any) => void} [options.onFinal]
   */
  constructor({ sessionId, token, cursor, pickUrl, random, cutAfterMs, onFinal }) {
    Object.assign(this, { sessionId, token, pickUrl, random, cutAfterMs, onFinal });
    this.lastEventId = cursor;
    /** Where the next event has to continue; null: a snapshot has to come first. */
    this.place = parse(cursor);
    this.generation = this.place?.generation ?? null;
    /** The natural keys seen in this generation. */
    this.seen = new Set();
    this.isStopped = false;
    this.abort = null;
    this.done = this.#run();
  }

  async stop() {
    this.isStopped = true;
    this.abort?.abort();
    await this.done;
  }

  /** Cuts the connection; the client comes back. */
  cut() {
    this.abort?.abort();
  }

  #violate(what) {
    if (this.violations.length < 20) this.violations.push(what);
    this.trace.push(`!! ${what}`);
  }

  async #run() {
    while (!this.isStopped) {
      this.abort = new AbortController();
      const cut = Number.isFinite(this.cutAfterMs)
        ? setTimeout(() => this.abort.abort(), 300 + this.random.pause(this.cutAfterMs))
        : undefined;
      try {
        await this.#connect(this.abort.signal);
      } catch (error) {
        if (error instanceof TypeError && !/fetch failed|terminated/.test(error.message)) throw error;
      } finally {
        clearTimeout(cut);
      }
      if (!this.isStopped) await sleep(50 + this.random.pause(200));
    }
  }

  async #connect(signal) {
    const url = this.pickUrl();
    // An api that is stopped (SIGSTOP) accepts and says nothing; the keep-alive comes every 15 s.
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), 5_000);
    try {
      const response = await fetch(`${url}/v1/sessions/${this.sessionId}/events`, {
        headers: {
          accept: 'text/event-stream',
          authorization: `Bearer ${this.token}`,
          'last-event-id': this.lastEventId,
        },
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (response.status !== 200) {
        await response.body?.cancel();
        if (response.status < 500) this.#violate(`following was answered with ${response.status}`);
        return;
      }
      this.connections++;
      const parser = this.#parser();
      const decoder = new TextDecoder();
      for await (const part of response.body) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), 20_000);
        parser.feed(decoder.decode(part, { stream: true }));
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Reads one connection: first the bare id at which it starts, then events. */
  #parser() {
    let isFirst = true;
    let bareId;
    // An id is told before its event; one that has not been followed by an event is bare.
    const settle = () => {
      if (bareId !== undefined) {
        if (!isFirst) this.#violate(`a bare id ${bareId} within a stream`);
        this.#open(bareId);
        isFirst = false;
      }
      bareId = undefined;
    };
    const parser = createParser({
      onId: (id) => {
        settle();
        bareId = id;
      },
      onEvent: ({ id, event, data }) => {
        if (id === undefined) return; // none of the contract's
        bareId = undefined;
        if (isFirst) this.#violate(`an event before the stream's first id`);
        isFirst = false;
        this.events++;
        this.#event(id, event, JSON.parse(data));
        this.lastEventId = id;
      },
    });
    return {
      feed: (text) => {
        parser.feed(text);
        settle();
      },
    };
  }

  #open(id) {
    if (id !== this.lastEventId && id !== UNKNOWN) {
      this.#violate(`opened with ${this.lastEventId}, the stream starts at ${id}`);
    }
    this.lastEventId = id;
    this.place = parse(id);
    this.trace.push(`-- opened at ${id}`);
  }

  #event(id, type, data) {
    const place = parse(id);
    const what =
      type === 'reply.delta'
        ? `${data.replyId.slice(-6)}/${data.attempt} @${data.offset}+${data.text.length}`
        : (data.replyId ?? data.reply?.id ?? data.message?.id ?? '').slice(-6) +
          (data.attempt === undefined ? '' : `/${data.attempt}`);
    this.trace.push(`${id} ${type} ${what}`);
    if (this.trace.length > 400) this.trace.splice(0, 200);
    if (type === 'session.snapshot') {
      this.#snapshot(place, data);
      return;
    }
    if (!place) {
      this.#violate(`an event with the id ${id}`);
      return;
    }
    if (!this.place) this.#violate(`${type} ${id} without a snapshot after an unknown cursor`);
    else if (place.generation !== this.place.generation || place.seq !== this.place.seq + 1) {
      this.#violate(`${type} ${id} follows ${this.place.generation}-${this.place.seq}`);
    }
    this.place = place;
    this.generation = place.generation;
    this.#apply(type, data);
  }

  #snapshot(place, { messages, replies }) {
    this.snapshots++;
    if (place === null) {
      this.#violate('a snapshot without a cursor');
      return;
    }
    if (place.generation === this.generation) {
      this.#violate(`a snapshot at ${place.seq} although the stream was not lost`);
    }
    this.place = place;
    this.generation = place.generation;
    this.seen.clear();
    for (const message of messages) this.messages.set(message.id, message.content);
    for (const reply of replies) {
      const before = this.replies.get(reply.id);
      if (before && FINAL.has(before.status) && before.status !== reply.status) {
        this.#violate(`${reply.id} was ${before.status} and is ${reply.status} in a snapshot`);
      }
      const isFinal = FINAL.has(reply.status);
      this.replies.set(reply.id, {
        attempt: reply.attempt,
        text: isFinal ? '' : (reply.text ?? ''),
        status: reply.status,
        isShown: !isFinal,
        isFromSnapshot: true,
        messageId: reply.messageId,
      });
      if (isFinal) this.#final(reply);
    }
  }

  #apply(type, data) {
    const key = [type, data.message?.id ?? data.reply?.id ?? data.replyId, data.attempt].join(' ');
    if (type !== 'reply.delta' && this.seen.has(key)) {
      this.#violate(`${key} was told twice`);
    }
    this.seen.add(key);
    switch (type) {
      case 'message.created':
        this.messages.set(data.message.id, data.message.content);
        return;
      case 'reply.queued':
        if (!this.replies.has(data.reply.id)) {
          this.replies.set(data.reply.id, { attempt: 0, text: '', status: 'queued', isShown: true });
        }
        return;
      case 'reply.started':
        this.#started(data);
        return;
      case 'reply.delta':
        this.#afterPause(data);
        this.#delta(data);
        return;
      case 'reply.retrying': {
        // What is shown stays until the next attempt starts.
        const reply = this.replies.get(data.replyId);
        if (reply && FINAL.has(reply.status) && reply.isShown) {
          this.#violate(`${data.replyId} is said to be tried again after its end`);
        }
        if (reply && reply.attempt <= data.attempt) reply.pausedAttempt = data.attempt;
        return;
      }
      case 'reply.completed':
      case 'reply.cancelled':
      case 'reply.failed':
        this.#ended(type.slice('reply.'.length), data);
        return;
      default:
        this.#violate(`an event of the unknown type ${type}`);
    }
  }

  /** The text of an end may follow; it comes in one append with the end, which the next event then is. */
  #afterPause({ replyId, attempt }) {
    const reply = this.replies.get(replyId);
    if (reply?.pausedAttempt === attempt && reply.hasTextAfterPause) {
      this.#violate(`${replyId} got more text of attempt ${attempt} than its end after that was over`);
    }
    if (reply?.pausedAttempt === attempt) reply.hasTextAfterPause = true;
  }

  #started({ replyId, attempt }) {
    const reply = this.replies.get(replyId);
    if (!reply) {
      this.#violate(`${replyId} started before it was queued`);
      this.replies.set(replyId, { attempt, text: '', status: 'in_progress', isShown: true });
      return;
    }
    if (FINAL.has(reply.status)) {
      // A snapshot was ahead of its cursor.
      if (reply.isShown) this.#violate(`${replyId} started again after its end`);
      return;
    }
    // A snapshot has the row's attempt of a reply that the stream knows nothing of yet.
    const mayRepeat = reply.isFromSnapshot && reply.text === '';
    if (attempt < reply.attempt + (reply.attempt === 0 ? 0 : 1) && !mayRepeat) {
      this.#violate(`${replyId} started attempt ${attempt} after ${reply.attempt}`);
    }
    Object.assign(reply, { attempt, text: '', status: 'in_progress', isFromSnapshot: false });
  }

  #delta({ replyId, attempt, offset, text }) {
    const reply = this.replies.get(replyId);
    if (reply && FINAL.has(reply.status) && !reply.isShown) return;
    if (!reply || FINAL.has(reply.status) || attempt !== reply.attempt || offset !== reply.text.length) {
      this.#violate(
        `a delta of ${replyId}/${attempt} at ${offset}, where ` +
          (reply ? `${reply.status}/${reply.attempt} has ${reply.text.length}` : 'nothing is known'),
      );
      if (!reply) return;
    }
    reply.text += text;
  }

  #ended(status, { reply: dto, message }) {
    const reply = this.replies.get(dto.id);
    if (dto.status !== status) this.#violate(`${dto.id} is ${dto.status} in reply.${status}`);
    if (!reply) {
      this.#violate(`${dto.id} ended before it was queued`);
    } else if (FINAL.has(reply.status)) {
      if (reply.isShown) this.#violate(`${dto.id} ended twice`);
      else if (reply.status !== status) this.#violate(`${dto.id} ended as ${status} and as ${reply.status}`);
    } else if (message && reply.text !== message.content) {
      this.#violate(
        `${dto.id} ended as ${status} with ${JSON.stringify(message.content.slice(-60))} (${message.content.length}) where ` +
          `${JSON.stringify(reply.text.slice(-60))} (${reply.text.length}) was shown`,
      );
    } else if (!message && status === 'cancelled' && reply.text.trim() !== '') {
      this.#violate(`${dto.id} was cancelled without the ${reply.text.length} characters that were shown`);
    }
    if (message) this.messages.set(message.id, message.content);
    this.replies.set(dto.id, {
      attempt: dto.attempt,
      text: '',
      status,
      isShown: true,
      messageId: message?.id ?? null,
    });
    this.#final(dto);
  }

  #final(reply) {
    this.onFinal?.(reply);
  }
}

function parse(id) {
  const match = /^([0-9a-z]+)-(\d+)$/.exec(id ?? '');
  return match && id !== UNKNOWN ? { generation: match[1], seq: Number(match[2]) } : null;
}
