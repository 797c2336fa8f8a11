import { type ApiClient, type Json } from './api-client.js';
import { answerTo, type ProviderCall, type RawProvider } from './raw-provider.js';
import type { Stack } from './stack.js';

/** The stores that a fault is tried on: the rows alone, and with Redis beside them. */
export const BACKENDS = globalThis.HAS_REDIS ? (['postgres', 'redis'] as const) : (['postgres'] as const);
export type Backend = (typeof BACKENDS)[number];

export interface Conversation {
  session: Json;
  guest: ApiClient;
  cursor: string;
  chatbotId: string;
}

/** A session with a chatbot whose model makes the provider behave in a certain way. */
export async function converse(stack: Stack, model: string, api = 0): Promise<Conversation> {
  const chatbot = await stack.owner('user_owner', api).createChatbot({ name: 'Bakery', model });
  const { session, guest, cursor } = await stack.client(api).openSession(chatbot.id);
  return { session, guest, cursor, chatbotId: chatbot.id };
}

let questions = 0;
/** A text that no other test of the file asks. */
export const newQuestion = (): string => `Question ${++questions}?`;

export const callsAbout = (provider: RawProvider, question: string): ProviderCall[] =>
  provider.calls.filter((call) => call.question === question);

/** What a session must look like in which every message got its own answer, once, in order. */
export const dialogue = (...questions: string[]): [string, string][] =>
  questions.flatMap((question): [string, string][] => [
    ['user', question],
    ['ai', answerTo(question)],
  ]);

export const spoken = (messages: Json[]): [string, string][] =>
  messages.map(({ sender, content }): [string, string] => [sender as string, content as string]);

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
