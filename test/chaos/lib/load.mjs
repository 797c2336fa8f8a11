import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Follower } from './follower.mjs';

/** Answers after which the same request is sent again: not ours to explain, or expressly "later". */
const isPassing = (status) => status >= 500 || status === 409 || status === 429;

/**
 * Steady load: guests who open a session, follow it, post (sometimes several at once), cancel and retry, and after
 * a while leave for another. Everything that was acknowledged is written down, to be checked afterwards.
 */
export class Load {
  /** One a session: { id, token, follower, posts, cancels, retries }. */
  sessions = [];
  violations = [];
  counts = { posts: 0, resent: 0, replayed: 0, cancels: 0, retries: 0, polls: 0, reads: 0 };
  /** How long an acknowledgement took, in milliseconds, resending included. */
  ackMs = [];
  isStopping = false;
  isStopped = false;

  /**
   * @param {object} options
   * @param {string[]} options.urls of the apis
   * @param {string} options.chatbotId
   * @param {import('./random.mjs').Random} options.random
   * @param {number} options.guests how many at a time
   * @param {number} options.pauseMs between the posts of a guest, on average
   * @param {number} [options.cancelShare]
   * @param {number} [options.postsPerSession]
   * @param {number} [options.cutAfterMs]
   * @param {(session: object) => Promise<void>} [options.onLeave]
   */
  constructor(options) {
    Object.assign(
      this,
      { cancelShare: 0.05, postsPerSession: 14, cutAfterMs: 6_000, impatientShare: 0.05, readShare: 0.05 },
      options,
    );
  }

  start() {
    this.guests = Array.from({ length: this.guests }, (_, i) => this.#guest(i, this.random.fork()));
  }

  /** No new posts; what was sent is resent until it is acknowledged. */
  async stopPosting() {
    this.isStopping = true;
    await Promise.all(this.guests);
  }

  async stopFollowing() {
    this.isStopped = true;
    await Promise.all(this.sessions.map(({ follower }) => follower.stop()));
  }

  #url = () => this.random.pick(this.urls);

  async #guest(number, random) {
    await sleep(random.between(0, this.pauseMs));
    for (let visit = 1; !this.isStopping; visit++) {
      const session = await this.open(`g${number}-${visit}`, random);
      if (!session) return;
      await this.#talk(session, random);
      if (this.isStopping) return;
      // The next session of this guest begins while this one's followers still watch its end.
      void this.#leave(session);
    }
  }

  async #leave(session) {
    const end = Date.now() + 120_000;
    while (!this.isStopped && Date.now() < end) {
      const known = [...session.follower.replies.values()];
      if (known.length > 0 && known.every(({ status }) => /completed|failed|cancelled/.test(status))) {
        await sleep(3_000);
        break;
      }
      await sleep(1_000);
    }
    await this.onLeave?.(session);
  }

  async open(name, random) {
    for (;;) {
      if (this.isStopping) return null;
      try {
        const response = await fetch(`${this.#url()}/v1/chatbots/${this.chatbotId}/sessions`, {
          method: 'POST',
          signal: AbortSignal.timeout(8_000),
        });
        const body = await response.json();
        if (response.status === 201) {
          const session = {
            id: body.session.id,
            token: body.token,
            name,
            posts: [],
            cancels: [],
            retries: [],
            polls: [],
          };
          session.follower = new Follower({
            sessionId: session.id,
            token: session.token,
            cursor: response.headers.get('x-event-cursor'),
            pickUrl: this.#url,
            random: random.fork(),
            cutAfterMs: this.cutAfterMs,
            onFinal: (reply) => this.#maybeRetry(session, reply, random),
          });
          this.sessions.push(session);
          return session;
        }
        if (!isPassing(response.status)) {
          this.violations.push(`opening a session was answered with ${response.status}`);
        }
      } catch {
        // again
      }
      await sleep(200);
    }
  }

  async #talk(session, random) {
    const total = random.integer(Math.ceil(this.postsPerSession / 2), Math.ceil(this.postsPerSession * 1.5));
    const running = new Set();
    for (let sent = 0; sent < total && !this.isStopping;) {
      const size = random.chance(0.08) ? random.integer(3, 6) : 1; // a burst, all at once
      for (let i = 0; i < size; i++) {
        sent++;
        const post = this.post(session, `${session.name}-${sent}`, random).finally(() =>
          running.delete(post),
        );
        running.add(post);
      }
      await sleep(random.pause(this.pauseMs));
    }
    await Promise.all(running);
  }

  /** Posts one message, and sends it again with its key until it is acknowledged. */
  async post(session, tag, random) {
    const content = `[${tag}] What about ${'x'.repeat(random.integer(0, 40))}? 漢字 😀`;
    const record = { tag, content, messageId: null, replyId: null };
    session.posts.push(record);
    this.counts.posts++;
    const startedAt = Date.now();
    const answer = await this.#acknowledged(session, `/v1/sessions/${session.id}/messages`, { content });
    if (!answer) return;
    this.ackMs.push(Date.now() - startedAt);
    const { message, reply } = answer.body;
    if (answer.status !== 202 || message.content !== content || message.replyId === null) {
      this.violations.push(
        `posting ${tag} was answered with ${answer.status} ${JSON.stringify(answer.body).slice(0, 200)}`,
      );
      return;
    }
    record.messageId = message.id;
    record.replyId = reply.id;
    if (random.chance(this.cancelShare)) {
      await sleep(random.between(0, 1_500));
      await this.#cancel(session, reply.id);
      return;
    }
    if (random.chance(this.readShare)) await this.#poll(session, reply.id);
    if (random.chance(this.readShare)) await this.#read(session);
  }

  async #cancel(session, replyId) {
    const record = { replyId, body: null };
    session.cancels.push(record);
    this.counts.cancels++;
    const answer = await this.#acknowledged(session, `/v1/replies/${replyId}/cancel`);
    if (!answer) return;
    record.body = answer.body;
    if (answer.status !== 200 || !/completed|failed|cancelled/.test(answer.body.status)) {
      this.violations.push(
        `cancelling ${replyId} was answered with ${answer.status} ${JSON.stringify(answer.body).slice(0, 200)}`,
      );
    }
  }

  #maybeRetry(session, reply, random) {
    if (reply.status === 'completed' || this.isStopping || session.retries.length >= 4) return;
    if (session.retries.some(({ of }) => of === reply.id) || !random.chance(0.6)) return;
    const record = { of: reply.id, replyId: null };
    session.retries.push(record);
    this.counts.retries++;
    void (async () => {
      const answer = await this.#acknowledged(session, `/v1/replies/${reply.id}/retry`, undefined, [409]);
      if (answer?.status === 202) {
        record.replyId = answer.body.id;
        if (answer.body.retryOf !== reply.id) this.violations.push(`a retry of ${reply.id} made another`);
      } else if (answer && answer.status !== 409) {
        this.violations.push(`retrying ${reply.id} was answered with ${answer.status}`);
      }
    })();
  }

  /** A long poll; whoever answers, the end is the end. */
  async #poll(session, replyId) {
    this.counts.polls++;
    try {
      const response = await fetch(`${this.#url()}/v1/replies/${replyId}?wait=20`, {
        headers: { authorization: `Bearer ${session.token}` },
        signal: AbortSignal.timeout(25_000),
      });
      const body = await response.json();
      if (response.status === 200) session.polls.push(body);
      else if (!isPassing(response.status)) {
        this.violations.push(`reading ${replyId} was answered with ${response.status}`);
      }
    } catch {
      // the api was stopped
    }
  }

  /** Reads the history: what is there is numbered 1, 2, 3… at any time. */
  async #read(session) {
    this.counts.reads++;
    try {
      const response = await fetch(`${this.#url()}/v1/sessions/${session.id}/messages?limit=100`, {
        headers: { authorization: `Bearer ${session.token}` },
        signal: AbortSignal.timeout(8_000),
      });
      if (response.status !== 200) {
        await response.body?.cancel();
        return;
      }
      const { data } = await response.json();
      if (data.some(({ sequence }, i) => sequence !== i + 1)) {
        this.violations.push(`the messages of ${session.id} are not numbered 1, 2, 3…`);
      }
    } catch {
      // the api was stopped
    }
  }

  /**
   * Sends a request with one idempotency key until it is answered for good; null when the round is over before.
   *
   * @param {number[]} answers statuses that are answers here, although they may mean "later" elsewhere
   */
  async #acknowledged(session, path, body, answers = []) {
    const key = randomUUID();
    for (let tries = 0; !this.isStopped; tries++) {
      if (tries > 0) this.counts.resent++;
      try {
        const response = await fetch(this.#url() + path, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${session.token}`,
            'idempotency-key': key,
            ...(body && { 'content-type': 'application/json' }),
          },
          ...(body && { body: JSON.stringify(body) }),
          // Some lose patience, or their connection, at any moment, and ask again at once.
          signal: AbortSignal.timeout(
            tries === 0 && this.random.chance(this.impatientShare) ? this.random.integer(1, 60) : 8_000,
          ),
        });
        const json = await response.json();
        if (response.headers.has('idempotency-replayed')) this.counts.replayed++;
        const isAnswer = answers.includes(response.status) && json.code !== 'idempotency_in_progress';
        if (isAnswer || !isPassing(response.status)) return { status: response.status, body: json };
      } catch {
        // a connection that broke: it may have happened, or not
      }
      if (tries > 0) await sleep(this.random.between(0.5, 1) * Math.min(200 * 2 ** tries, 3_000));
    }
    return null;
  }
}
