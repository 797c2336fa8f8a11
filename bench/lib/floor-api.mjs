// What posts and pages are compared with: node:http, pg and BullMQ, and nothing else.
import { createServer } from 'node:http';
import pg from 'pg';
import { openQueue } from './floor-queue.mjs';
import { findSession, storePost } from './floor-rows.mjs';
import { input, listen, ready } from './program.mjs';

const urls = input();
const pool = new pg.Pool({ connectionString: urls.databaseUrl, max: 10 });
const queue = openQueue(urls);

/** @type {Record<string, string>} a page, by its last word */
const PAGES = {
  messages: `select id, sequence, sender, content, reply_id as "replyId", created_at as "createdAt"
    from messages where chat_session_id = $1 order by sequence limit 101`,
  sessions: `select s.id, s.chatbot_id as "chatbotId", c.name as "chatbotName", s.created_at as "createdAt",
      s.last_message_at as "lastMessageAt", s.active_at as "activeAt", s.message_count as "messageCount",
      g.id as "guestId", g.name as "guestName", g.email as "guestEmail"
    from chat_sessions s join chatbots c on c.id = s.chatbot_id left join guests g on g.id = s.guest_id
    where s.chatbot_id = $1 order by s.active_at desc, s.id desc limit 101`,
  chatbots: `select c.*, of_chatbot.*
    from chatbots c, lateral (
      select count(*) as characteristics, sum(tokens) as tokens from chatbot_characteristics h where h.chatbot_id = c.id
    ) as of_chatbot
    where c.clerk_user_id = $1 order by c.created_at desc, c.id desc limit 101`,
};

/** @param {import('node:http').IncomingMessage} request @returns {Promise<{ status: number, body: object }>} */
async function answer(request) {
  const [, , , id, kind] = new URL(request.url ?? '', 'http://x').pathname.split('/');
  if (request.method === 'GET') {
    const { rows } = await pool.query(PAGES[kind ?? ''] ?? '', [id]);
    return { status: 200, body: { data: rows.slice(0, 100), hasMore: rows.length > 100 } };
  }
  const parts = [];
  for await (const part of request) parts.push(part);
  const { content } = JSON.parse(Buffer.concat(parts).toString());
  const session = await findSession(pool, request.headers.authorization?.slice('Bearer '.length) ?? '');
  if (session?.id !== id) return { status: 404, body: {} };
  const { message, reply } = await storePost(pool, session, content);
  await queue.add('generate', { replyId: reply.id, sessionId: session.id }, { jobId: `r-${reply.id}` });
  return { status: 202, body: { message, reply } };
}

const server = createServer((request, response) => {
  answer(request).then(
    ({ status, body }) =>
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
    (error) => response.writeHead(500).end(String(error)),
  );
});
await queue.waitUntilReady();
ready({ url: await listen(server) });
