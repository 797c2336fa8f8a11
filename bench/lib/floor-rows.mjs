// The rows of a post and of a reply, in the transactions in which anybody would write them, a statement each.
import { createHash, randomUUID } from 'node:crypto';

/** Whose token it is. @param {import('pg').Pool} pool @param {string} token */
export async function findSession(pool, token) {
  const { rows } = await pool.query(
    `select s.id, s.chatbot_id, c.name, c.is_enabled, s.message_count from chat_sessions s
     join session_tokens t on t.session_id = s.id join chatbots c on c.id = s.chatbot_id where t.hash = $1`,
    [createHash('sha256').update(token).digest('hex')],
  );
  return rows[0] ?? null;
}

/**
 * @param {import('pg').Pool} pool
 * @param {(client: import('pg').PoolClient) => Promise<any>} work
 */
async function inTransaction(pool, work) {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    return result;
  } finally {
    client.release();
  }
}

/** @param {import('pg').PoolClient} client @param {string} sessionId @param {string} content */
async function countMessage(client, sessionId, content) {
  const { rows } = await client.query(
    `update chat_sessions set message_count = message_count + 1, message_chars = message_chars + $2,
       last_message_at = clock_timestamp(), active_at = clock_timestamp()
     where id = $1 returning message_count`,
    [sessionId, content.length],
  );
  return rows[0].message_count;
}

/** @param {import('pg').PoolClient} client @param {unknown[]} message session, sequence, sender, content, reply */
async function insertMessage(client, ...message) {
  const { rows } = await client.query(
    `insert into messages (id, chat_session_id, sequence, sender, content, reply_id)
     values ($1, $2, $3, $4, $5, $6) returning *`,
    [randomUUID(), ...message],
  );
  return rows[0];
}

/** A message, and the reply to come. @param {import('pg').Pool} pool @param {any} session @param {string} content */
export const storePost = (pool, session, content) =>
  inTransaction(pool, async (client) => {
    const sequence = await countMessage(client, session.id, content);
    const { rows } = await client.query(
      `insert into replies (id, chat_session_id, chatbot_id, message_count, available_at, deadline_at, dispatch_count,
         dispatched_at)
       values ($1, $2, $3, 1, clock_timestamp(), clock_timestamp() + interval '10 minutes', 1, clock_timestamp())
       returning *`,
      [randomUUID(), session.id, session.chatbot_id],
    );
    const message = await insertMessage(client, session.id, sequence, 'user', content, rows[0].id);
    return { message, reply: rows[0] };
  });

/** @param {import('pg').Pool} pool @param {string} replyId */
export const claim = (pool, replyId) =>
  pool.query(
    `update replies set status = 'in_progress', attempt = attempt + 1, lease_token = gen_random_uuid(),
       lease_until = clock_timestamp() + interval '20 seconds', claimed_at = clock_timestamp(), started_at = clock_timestamp()
     where id = $1 and status = 'queued' returning *`,
    [replyId],
  );

/** @param {import('pg').Pool} pool @param {string} sessionId */
export async function readHistory(pool, sessionId) {
  const { rows } = await pool.query(
    'select sender, content from messages where chat_session_id = $1 order by sequence desc limit 200',
    [sessionId],
  );
  return rows.toReversed();
}

/** @param {import('pg').Pool} pool @param {{ replyId: string, sessionId: string }} ids @param {string} content */
export const storeAnswer = (pool, { replyId, sessionId }, content) =>
  inTransaction(pool, async (client) => {
    const { rows } = await client.query(
      'select message_count + 1 as sequence from chat_sessions where id = $1 for update',
      [sessionId],
    );
    await client.query(
      `update replies set status = 'completed', finish_reason = 'stop', finished_at = clock_timestamp(),
         announced_at = clock_timestamp(), lease_token = null, lease_until = null, input_tokens = 50, output_tokens = 20
       where id = $1 and status = 'in_progress'`,
      [replyId],
    );
    await insertMessage(client, sessionId, rows[0].sequence, 'ai', content, replyId);
    await countMessage(client, sessionId, content);
  });
