import { expect } from '@jest/globals';
import { type ApiClient, type Json } from './api-client.js';
import { answerTo, type ProviderCall, type RawProvider } from './raw-provider.js';
import type { Stack } from './stack.js';

/** The stores that a fault is tried on: the rows alone, and with Redis beside them. */
export const BACKENDS = globalThis.HAS_REDIS ? (['postgres', 'redis'] as const) : (['postgres'] as const);
export type Backend = (typeof BACKENDS)[number];

/** What a test speaks to: a product of its own, or one that many files share. */
export type Speakable = Pick<Stack, 'client' | 'owner'>;

export interface Conversation {
  chatbotId: string;
  session: Json;
  guest: ApiClient;
  owner: ApiClient;
  cursor: string;
}

/** A session with a chatbot whose model makes the provider behave in a certain way. */
export async function converse(stack: Speakable, model: string | null = 'ok'): Promise<Conversation> {
  const owner = stack.owner();
  const chatbot = await owner.createChatbot({ name: 'Bakery', model });
  const { session, guest, cursor } = await stack.client().openSession(chatbot.id);
  return { chatbotId: chatbot.id, session, guest, owner, cursor };
}

/** Posts a question and waits for the end of its reply. */
export async function ask(
  { session, guest }: Pick<Conversation, 'session' | 'guest'>,
  question = newQuestion(),
): Promise<Json> {
  const { reply } = await guest.postMessage(session.id, question);
  return guest.finalReply(reply.id);
}

let questions = 0;
/** A text that no other test asks, of whichever file. */
export const newQuestion = (): string => `Question ${process.pid}.${++questions}?`;

export const callsAbout = (provider: Pick<RawProvider, 'calls'>, question: string): ProviderCall[] =>
  provider.calls.filter((call) => call.question === question);

/**
 * The conversation that the provider was sent, without the chatbot's own part of the prompt, message by message: those
 * in a row were sent as one turn, a paragraph each.
 */
export const turnsOf = (call: ProviderCall): [string, string][] =>
  call.body.messages
    .slice(1)
    .flatMap(({ role, content }) => content.split('\n\n').map((part): [string, string] => [role, part]));

/** What a session must look like in which every message got its own answer, once, in order. */
export const dialogue = (...questions: string[]): [string, string][] =>
  questions.flatMap((question): [string, string][] => [
    ['user', question],
    ['ai', answerTo(question)],
  ]);

export const spoken = (messages: Json[]): [string, string][] =>
  messages.map(({ sender, content }): [string, string] => [sender as string, content as string]);

/** What the contract says of a session at rest: numbered without a hole, and every message answered, in order. */
export function expectAnswered(messages: readonly Json[]): void {
  expect(messages.map(({ sequence }) => sequence)).toEqual(messages.map((_, index) => index + 1));
  const answers = messages.filter(({ sender }) => sender === 'ai');
  const questions = messages.filter(({ sender }) => sender === 'user');
  // The replies in the order in which their first messages came are the answers in the order in which they came.
  expect([...new Set(questions.map(({ replyId }) => replyId))]).toEqual(
    answers.map(({ replyId }) => replyId),
  );
  for (const question of questions) {
    const answer = answers.find(({ replyId }) => replyId === question.replyId);
    expect(answer.sequence).toBeGreaterThan(question.sequence);
  }
}

/**
 * What must hold whatever went wrong (I1–I6 of the fault plan), as a list of what does not: every reply is final
 * and told, a completed one has exactly one AI message, no reply has two, messages are numbered without a hole.
 */
export async function violations(stack: Pick<Stack, 'database'>): Promise<string[]> {
  const rows = await stack.database.query<{ what: string }>(`
    select 'unfinished reply ' || id as what from replies where finished_at is null
    union all
    select 'completed without exactly one message ' || r.id from replies r
    where status = 'completed'
      and (select count(*) from messages m where m.reply_id = r.id and m.sender = 'ai') <> 1
    union all
    select 'failed with a message ' || r.id from replies r
    where status = 'failed' and exists (select 1 from messages m where m.reply_id = r.id and m.sender = 'ai')
    union all
    select 'hole in session ' || chat_session_id from messages
    group by chat_session_id having max(sequence) <> count(*) or min(sequence) <> 1
    union all
    select 'message without a reply ' || id from messages where sender = 'user' and reply_id is null`);
  return rows.map(({ what }) => what);
}
