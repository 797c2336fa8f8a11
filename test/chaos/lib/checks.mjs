import { setTimeout as sleep } from 'node:timers/promises';

/**
 * What must hold after any round (I1–I10 of the plan), by query, by the provider's log and by what the clients saw.
 */
export class Findings {
  /** Name → details, at most some of each. @type {Map<string, { count: number, details: string[] }>} */
  violations = new Map();

  /** @param {string} name @param {string} detail */
  add(name, detail) {
    const known = this.violations.get(name) ?? { count: 0, details: [] };
    known.count++;
    if (known.details.length < 3) known.details.push(detail);
    this.violations.set(name, known);
  }

  get total() {
    return [...this.violations.values()].reduce((sum, { count }) => sum + count, 0);
  }

  /** @param {number} examples of each */
  print(examples = 1) {
    if (this.total === 0) {
      console.log('  every invariant holds');
      return;
    }
    console.log(`  VIOLATIONS: ${this.total}`);
    for (const [name, { count, details }] of this.violations) {
      console.log(`  - ${name}: ${count}`);
      for (const detail of details.slice(0, examples)) console.log(`    ${detail}`);
    }
  }
}

/** Waits until no reply is unfinished and every end has been told. @returns how long it took, or null: too long */
export async function drain(cluster, boundMs) {
  const startedAt = Date.now();
  for (;;) {
    try {
      const [{ open, unpublished }] = await cluster.query(
        `select count(*) filter (where finished_at is null)::int as open,
           count(*) filter (where finished_at is not null and announced_at is null)::int as unpublished from replies`,
      );
      if (open === 0 && unpublished === 0) return Date.now() - startedAt;
    } catch {
      // the database comes back
    }
    if (Date.now() - startedAt > boundMs) return null;
    await sleep(250);
  }
}

/** Waits until every client has seen the end of every reply of its session. */
export async function untilSeen(cluster, sessions, boundMs) {
  const end = Date.now() + boundMs;
  const rows = await cluster.query(`select id, chat_session_id from replies`, [], 5);
  const bySession = Map.groupBy(rows, (row) => row.chat_session_id);
  const isSeen = ({ id, follower }) =>
    (bySession.get(id) ?? []).every((row) =>
      /completed|failed|cancelled/.test(follower.replies.get(row.id)?.status),
    );
  while (Date.now() < end && !sessions.every(isSeen)) await sleep(100);
}

/**
 * @param {object} round
 * @param {import('./cluster.mjs').Cluster} round.cluster
 * @param {import('./load.mjs').Load} round.load
 * @param {import('./provider.mjs').Provider} round.provider
 * @param {number} round.budget REPLY_ATTEMPTS
 * @param {Findings} findings
 */
export async function check({ cluster, load, provider, budget }, findings) {
  const replies = await cluster.query(
    `select r.*, extract(epoch from r.created_at) * 1000 as created_ms, extract(epoch from r.started_at) * 1000 as started_ms,
       extract(epoch from r.finished_at) * 1000 as finished_ms
     from replies r order by r.chat_session_id, r.created_at, r.id`,
    [],
    10,
  );
  const messages = await cluster.query(`select * from messages order by chat_session_id, sequence`, [], 10);
  const audit = await cluster.query(
    `select *, extract(epoch from at) * 1000 as at_ms from chaos_audit order by n`,
    [],
    10,
  );
  const byId = new Map(replies.map((reply) => [reply.id, reply]));
  const aiOf = Map.groupBy(
    messages.filter(({ sender }) => sender === 'ai'),
    ({ reply_id }) => reply_id,
  );
  const usersOf = Map.groupBy(
    messages.filter(({ sender }) => sender === 'user'),
    ({ reply_id }) => reply_id,
  );
  const auditOf = Map.groupBy(audit, ({ reply_id }) => reply_id);
  const sessionOf = new Map(load.sessions.map((session) => [session.id, session]));
  const successorOf = new Map(replies.filter((r) => r.retry_of_id).map((r) => [r.retry_of_id, r]));

  /** Everything that is known of a reply, for whoever has to find out why. */
  const about = (id) => {
    const reply = byId.get(id);
    const tag = questionOf(id);
    return [
      `  row: ${JSON.stringify(reply, (key, value) => (key === 'partial_text' ? undefined : value))}`,
      `  ai: ${JSON.stringify((aiOf.get(id) ?? []).map(({ content }) => content))}`,
      `  audit: ${(auditOf.get(id) ?? []).map((a) => `${new Date(Number(a.at_ms)).toISOString().slice(14, 23)} ${a.kind} ${a.old_status}/${a.old_attempt}→${a.new_status}/${a.new_attempt} failures ${a.new_failures}`).join('; ')}`,
      `  calls: ${(provider.byTag.get(tag) ?? []).map((c) => `#${c.ordinal} ${c.worker} ${c.kind} ${new Date(c.startedAt).toISOString().slice(14, 23)}–${c.endedAt ? new Date(c.endedAt).toISOString().slice(14, 23) : 'open'} by ${c.endedBy} sent ${c.sentLength}/${c.text.length}`).join('; ')}`,
      `  session ${reply?.chat_session_id}: ${sessionOf.get(reply?.chat_session_id)?.follower.trace.slice(-40).join('\n    ') ?? 'not followed'}`,
    ].join('\n');
  };
  const tagIn = ({ content }) => content.match(/\[([a-z0-9-]+)\]/)?.[1];
  /**
   * The tags of the messages that a reply answered. They move on to its retry, which others may have joined since.
   */
  const questions = new Map(
    replies.map(({ id, finished_at }) => {
      let last = id;
      while (successorOf.has(last)) last = successorOf.get(last).id;
      const users = usersOf.get(last) ?? [];
      return [id, (last === id ? users : users.filter((user) => user.created_at <= finished_at)).map(tagIn)];
    }),
  );
  function questionOf(id) {
    return questions.get(id)?.at(-1) ?? null;
  }
  /** All replies of the session in which something was asked. */
  const aboutSession = (tag) => {
    const sessionId = messages.find((message) => tagIn(message) === tag)?.chat_session_id;
    return replies
      .filter(({ chat_session_id }) => chat_session_id === sessionId)
      .map(
        (reply) =>
          `    ${reply.id} ${reply.status} answers ${questions.get(reply.id)?.join(' ')}` +
          ` created ${reply.created_at.toISOString()} retry of ${reply.retry_of_id} attempt ${reply.attempt}` +
          ` started ${reply.started_at?.toISOString()} finished ${reply.finished_at?.toISOString()}`,
      )
      .join('\n');
  };
  const fail = (name, id, what = '') => findings.add(name, `${id} ${what}\n${about(id)}`);

  for (const reply of replies) {
    const { id, status } = reply;
    const ai = aiOf.get(id) ?? [];
    const tag = questionOf(id);
    const calls = provider.byTag.get(tag) ?? [];
    // I1
    if (reply.finished_at === null) {
      fail('I1 a reply is not final', id, status);
      continue;
    }
    // I2, I4
    if (ai.length > 1) fail('I4 a reply has several AI messages', id);
    if (status === 'completed' && ai.length !== 1) fail('I2 a completed reply has no AI message', id);
    if (status === 'failed' && ai.length !== 0) fail('I2 a failed reply has an AI message', id);
    if (status === 'failed' && !reply.error_code) fail('I8 a failed reply has no reason', id);
    // I3: exactly the text of one call that came to its end, or what one call had begun to say.
    const text = ai[0]?.content;
    if (status === 'completed' && !calls.some((call) => call.isFinished && call.text === text)) {
      fail('I3 a completed text is no whole answer to its question', id, JSON.stringify(text));
    }
    if (status === 'cancelled' && text !== undefined) {
      const isPrefix = calls.some((call) => call.text.startsWith(text) && text.length <= call.sentLength);
      if (!isPrefix) fail('I3 a cancelled text is no beginning of what was sent', id, JSON.stringify(text));
    }
    // I6
    if (reply.failures > budget) fail('I6 a reply failed more often than it may', id);
    if (reply.attempt > 30) fail('I6 a reply was attempted more than 30 times', id);
    for (const entry of auditOf.get(id) ?? []) {
      if (entry.kind === 'final_changed') fail('I7 a final reply changed', id);
      if (entry.kind === 'claimed_over_lease') fail('I9 a reply was claimed over a lease', id);
      if (entry.kind === 'odd_claim') fail('I9 a claim did not count', id);
    }
    if (!(usersOf.get(id)?.length > 0) && !successorOf.has(id)) fail('I8 a reply answers nothing', id);
  }

  // I5: one provider call an attempt, over all replies that answered the same messages.
  for (const [tag, calls] of provider.byTag) {
    const last = replies.filter(({ id }) => questionOf(id) === tag);
    const attempts = last.reduce((sum, { attempt }) => sum + attempt, 0);
    if (calls.length > attempts)
      findings.add('I5 more calls than attempts', `${tag}: ${calls.length} calls, ${attempts} attempts`);
    if (last.length === 0) findings.add('I5 a call about what no reply answers', tag);
  }

  // What was asked: the messages of the reply in order, after what came before them.
  const order = Map.groupBy(messages, ({ chat_session_id }) => chat_session_id);
  const placeOfTag = new Map();
  for (const { content, sender, sequence } of messages) {
    if (sender === 'user') placeOfTag.set(tagIn({ content }), sequence);
  }
  for (const call of provider.calls) {
    const places = call.asked.map((tag) => placeOfTag.get(tag));
    if (places.some((place, i) => place === undefined || (i > 0 && place <= places[i - 1]))) {
      findings.add(
        'I3 a prompt is out of order',
        `${call.tag}: ${call.asked.map((tag, i) => `${tag}=${places[i]}`).join(' ')}\n${aboutSession(call.tag)}`,
      );
    }
  }
  for (const [id, tags] of questions) {
    for (const call of provider.byTag.get(tags.at(-1)) ?? []) {
      if (call.asked.slice(-tags.length).join(' ') !== tags.join(' ')) {
        fail(
          'I3 a prompt lacks a message that it answers',
          id,
          `${tags.join(' ')} | ${call.asked.slice(-5).join(' ')}`,
        );
      }
    }
  }

  // Sessions: messages 1..n, replies one at a time and in order.
  for (const [sessionId, list] of order) {
    if (list.some(({ sequence }, i) => sequence !== i + 1)) {
      findings.add('I10 the sequence of a session has a hole', sessionId);
    }
  }
  for (const list of Map.groupBy(replies, ({ chat_session_id }) => chat_session_id).values()) {
    for (let i = 1; i < list.length; i++) {
      if (list[i].started_ms !== null && Number(list[i].started_ms) < Number(list[i - 1].finished_ms)) {
        fail('I10 a reply began before the one before it had ended', list[i].id);
      }
    }
    const answers = list.flatMap(({ id }) => aiOf.get(id) ?? []);
    if (answers.some(({ sequence }, i) => i > 0 && sequence < answers[i - 1].sequence)) {
      findings.add('I10 the answers of a session are out of order', list[0].chat_session_id);
    }
  }

  // I8: what was acknowledged, and what was sent.
  const byContent = Map.groupBy(
    messages.filter(({ sender }) => sender === 'user'),
    ({ content }) => content,
  );
  let acknowledged = 0;
  for (const session of load.sessions) {
    for (const post of session.posts) {
      const stored = byContent.get(post.content) ?? [];
      if (stored.length > 1) findings.add('I8 a message is stored twice', post.tag);
      if (post.messageId === null) {
        findings.add('I8 a message was never acknowledged', post.tag);
        continue;
      }
      acknowledged++;
      const [message] = stored;
      if (message?.id !== post.messageId) {
        findings.add('I8 an acknowledged message is lost', `${post.tag} ${post.messageId}`);
        continue;
      }
      // The reply of then, or its retries.
      let reply = byId.get(post.replyId);
      while (reply && reply.id !== message.reply_id) reply = successorOf.get(reply.id);
      if (!reply) findings.add('I8 a message is answered by another reply', `${post.tag} ${post.replyId}`);
    }
    for (const cancel of session.cancels) {
      const reply = byId.get(cancel.replyId);
      if (!cancel.body || !reply) {
        findings.add('I7 a cancel was never acknowledged', cancel.replyId);
        continue;
      }
      const isSame =
        cancel.body.status === reply.status &&
        cancel.body.messageId === (aiOf.get(reply.id)?.[0]?.id ?? null) &&
        cancel.body.finishedAt === new Date(reply.finished_at).toISOString();
      if (!isSame) {
        fail('I7 an acknowledged cancel is not the end', reply.id, JSON.stringify(cancel.body));
      }
    }
    for (const retry of session.retries) {
      if (retry.replyId && byId.get(retry.replyId)?.retry_of_id !== retry.of) {
        findings.add('I8 an acknowledged retry is lost', `${retry.of} ${retry.replyId}`);
      }
    }
    for (const poll of session.polls) {
      if (/completed|failed|cancelled/.test(poll.status) && byId.get(poll.id)?.status !== poll.status) {
        fail('I7 a reply that was read as final is another', poll.id, poll.status);
      }
    }
  }

  // I10: what the clients saw.
  for (const { id: sessionId, follower, isGone } of load.sessions) {
    for (const violation of follower.violations) {
      findings.add(
        'I10 a client saw what may not be',
        `${sessionId} ${violation}\n    ${follower.trace.slice(-60).join('\n    ')}`,
      );
    }
    if (isGone) continue;
    for (const message of order.get(sessionId) ?? []) {
      if (follower.messages.get(message.id) !== message.content) {
        findings.add(
          'I10 a client did not see a message as it is',
          `${sessionId} ${message.id} ${message.sender}`,
        );
      }
    }
    for (const reply of replies.filter((each) => each.chat_session_id === sessionId)) {
      if (follower.replies.get(reply.id)?.status !== reply.status) {
        fail(
          'I10 a client did not see the end of a reply',
          reply.id,
          String(follower.replies.get(reply.id)?.status),
        );
      }
    }
  }
  for (const violation of load.violations) findings.add('an answer that may not be', violation);
  for (const crash of cluster.crashes) findings.add('a process ended by itself, or badly', crash);

  const count = (predicate) => replies.filter(predicate).length;
  const overlapping = provider.calls.filter((call) => {
    const next = provider.byTag.get(call.tag)?.[call.ordinal];
    return next && (call.endedAt ?? Infinity) > next.startedAt + 50;
  });
  return {
    repliesOf: Map.groupBy(replies, ({ id }) => questionOf(id)),
    audit,
    counts: {
      sessions: load.sessions.length,
      posts: load.counts.posts,
      acknowledged,
      'requests sent again': load.counts.resent,
      'replayed answers': load.counts.replayed,
      replies: replies.length,
      completed: count(({ status }) => status === 'completed'),
      cancelled: count(({ status }) => status === 'cancelled'),
      failed: count(({ status }) => status === 'failed'),
      retried: count(({ retry_of_id }) => retry_of_id !== null),
      attempts: replies.reduce((sum, { attempt }) => sum + attempt, 0),
      'failures charged': replies.reduce((sum, { failures }) => sum + failures, 0),
      'leases recovered': audit.filter(({ kind }) => kind === 'recovered').length,
      'handed back or retried': audit.filter(({ kind }) => kind === 'released').length,
      'provider calls': provider.calls.length,
      'calls closed by the worker': provider.calls.filter(({ endedBy }) => endedBy === 'client').length,
      'calls overlapping the next attempt': overlapping.length,
      'cancels acknowledged': load.sessions.reduce((sum, { cancels }) => sum + cancels.length, 0),
      'client connections': load.sessions.reduce((sum, { follower }) => sum + follower.connections, 0),
      'events seen': load.sessions.reduce((sum, { follower }) => sum + follower.events, 0),
      snapshots: load.sessions.reduce((sum, { follower }) => sum + follower.snapshots, 0),
    },
    errors: Object.entries(
      Object.groupBy(
        replies.filter(({ error_code }) => error_code),
        ({ error_code }) => error_code,
      ),
    )
      .map(([code, list]) => `${code} ${list.length}`)
      .join(', '),
  };
}

/** After the end of all work: what the processes still hold. Then they are stopped. */
export async function checkLeaks({ cluster, load }, findings) {
  await load.stopFollowing();
  const perProcess = 10 + 2 + 3 + 3; // the pools, and what listens
  await sleep(3_000);
  const clients = await cluster.query(
    `select application_name, count(*)::int as n from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and application_name <> 'chaos'
     group by 1`,
    [],
    5,
  );
  const total = clients.reduce((sum, { n }) => sum + n, 0);
  if (total > cluster.processes.length * perProcess + 5) {
    findings.add('connections to PostgreSQL leak', JSON.stringify(clients));
  }
  // In the midst of a transaction of the reconciler's one may be idle for an instant.
  const idle = await cluster.query(
    `select application_name, left(query, 60) as query, clock_timestamp() - state_change as idle_for
     from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
       and state_change < clock_timestamp() - interval '1 s'`,
  );
  if (idle.length > 0) findings.add('a transaction is left open', JSON.stringify(idle));
  let subscriptions = 'none to count';
  if (cluster.backend === 'redis') {
    // Readiness proves that a process may subscribe by one channel of its own, which it keeps: no session's.
    const isOfASession = (name) => name !== '' && !name.endsWith(':proof');
    const count = async () => ({
      channels: (await cluster.redisCli('PUBSUB', 'CHANNELS', '*')).split('\n').filter(isOfASession),
      patterns: Number(await cluster.redisCli('PUBSUB', 'NUMPAT')),
    });
    let { channels, patterns } = await count();
    for (let i = 0; i < 10 && channels.length + patterns > 0; i++) {
      await sleep(1_000);
      ({ channels, patterns } = await count());
    }
    subscriptions = `${channels.length} channels, ${patterns} patterns`;
    if (channels.length + patterns > 0) {
      const clients = (await cluster.redisCli('CLIENT', 'LIST', 'TYPE', 'pubsub'))
        .split('\n')
        .map((line) => /addr=\S+|sub=\d+/g[Symbol.match](line)?.join(' '));
      const owners = await cluster.ownersOfConnections();
      findings.add(
        'subscriptions leak',
        `${channels.length} ${channels.slice(0, 5).join(' ')}\n${clients.join('\n')}\n${owners}`,
      );
    }
  }
  const footprints = cluster.processes.map((each) => ({ name: each.name, ...each.footprint() }));
  for (const { name, rssMb, files } of footprints) {
    if (rssMb > 400) findings.add('memory', `${name} takes ${rssMb} MB`);
    if (files > 120) findings.add('open files', `${name} has ${files}`);
  }
  const bad = await cluster.stopProcesses();
  for (const each of bad) findings.add('a process did not end well', each);
  await sleep(500);
  const left = await cluster.query(
    `select application_name, state, left(query, 60) as query from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and application_name <> 'chaos'
       and application_name <> '' and pid <> pg_backend_pid()`,
  );
  const ours = left.filter(({ application_name }) => application_name.startsWith('assistly'));
  if (ours.length > 0) findings.add('connections are left after the end', JSON.stringify(ours));
  return {
    connections: clients.map(({ application_name, n }) => `${application_name || '(none)'} ${n}`).join(', '),
    subscriptions,
    footprints,
  };
}
