import { once } from 'node:events';
import { connect } from 'node:net';
import type { ApiClient, Json } from './api-client.js';
import { newQuestion } from './conversations.js';
import type { Stack } from './stack.js';
import { waitFor } from './wait.js';

/** The queue board, as its operator and as strangers reach it. */

export const OPERATOR = { user: 'operator', password: 'a long pass:word' };

export const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
export const OPERATOR_HEADER = basic(OPERATOR.user, OPERATOR.password);

export interface Asked {
  replyId: string;
  sessionId: string;
  question: string;
  guest: ApiClient;
}

/** A question to a chatbot whose model makes the provider behave in a certain way. All that is text says canary. */
export async function askCanary(stack: Stack, model: string): Promise<Asked> {
  const chatbot = await stack.owner().createChatbot({
    name: 'canary-chatbot',
    model,
    greeting: 'canary-greeting',
    characteristics: ['canary-fact'],
  });
  const { session, guest } = await stack
    .client()
    .openSession(chatbot.id, { guest: { name: 'canary-guest', email: 'canary@example.com' } });
  const question = `canary: ${newQuestion()}`;
  const { reply } = await guest.postMessage(session.id, question);
  return { replyId: reply.id, sessionId: session.id, question, guest };
}

export async function askCanaryToTheEnd(stack: Stack, model: string): Promise<Asked> {
  const asked = await askCanary(stack, model);
  await asked.guest.finalReply(asked.replyId);
  return asked;
}

/** How the jobs of a reply are named: the nth time that it was enqueued. */
export const jobOf = ({ replyId }: Asked, number = 1): string => `r-${replyId}-${number}`;

/** The board's own API, as the operator. */
export async function board(
  stack: Stack,
  path: string,
  init: RequestInit = {},
): Promise<{ status: number; body: Json; headers: Headers }> {
  const response = await fetch(`${stack.apis[0]!.url}/admin/queues/api${path}`, {
    ...init,
    headers: { authorization: OPERATOR_HEADER, ...(init.headers as Record<string, string>) },
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? null : JSON.parse(text), headers: response.headers };
}

export async function stateOf(stack: Stack, jobId: string): Promise<string> {
  return (await board(stack, `/queues/replies/${jobId}`)).body.status;
}

export const untilJobIs = (stack: Stack, jobId: string, state: string): Promise<unknown> =>
  waitFor(`job ${jobId} to be ${state}`, async () => {
    const found = await stateOf(stack, jobId);
    if (found !== state) throw new Error(`it is ${found}`);
    return true;
  });

/** Sends a request as it is written here, past everything that would tidy it up. */
export async function sendRaw(
  baseUrl: string,
  method: string,
  path: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
  const { hostname, port } = new URL(baseUrl);
  const socket = connect(Number(port), hostname);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(
    `${method} ${path} HTTP/1.1\r\nHost: ${hostname}\r\n${lines.join('')}Connection: close\r\n\r\n`,
  );
  let text = '';
  socket.setEncoding('utf8').on('data', (data) => (text += String(data)));
  await once(socket, 'close');
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), text };
}
