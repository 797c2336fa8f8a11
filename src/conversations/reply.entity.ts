import { defineEntity, p } from '@mikro-orm/core';
import { createdAtColumn, idColumn, timeColumn } from '../database/columns.js';
import type { TableOf } from '../database/tables.js';
import { ChatSession } from './chat-session.entity.js';
import { type CancelledBy, ReplyErrorCode, ReplyFinishReason, ReplyStatus } from './reply-status.js';

/** What is kept of an attempt that another one followed. Times are PostgreSQL's, as it writes them in JSON. */
export interface PastAttempt {
  attempt: number;
  worker: string | null;
  model: string | null;
  claimedAt: string | null;
  /** When its first text was stored; null: it had none. Those of earlier versions do not say. */
  firstTokenAt?: string | null;
  endedAt: string;
  /** A {@link ReplyErrorCode}, or why its worker did not end it itself. */
  reason: string;
}

const ReplySchema = defineEntity({
  name: 'Reply',
  tableName: 'replies',
  properties: {
    id: idColumn(),
    chatSession: () => p.manyToOne(ChatSession).ref().deleteRule('cascade'),
    /** Its session's; the database fills it in. */
    chatbotId: p.uuid().nullable(),
    status: p.enum(Object.values(ReplyStatus)).default(ReplyStatus.Queued),
    retryOf: () => p.manyToOne(Reply).ref().nullable().deleteRule('no action'),
    /** The request that asked for it, for the logs of every process that works on it. */
    requestId: p.string().length(128).nullable(),

    /** Counts claims; never goes down. It fences: text and ends of an earlier attempt are recognised by it. */
    attempt: p.integer().default(0),
    /** Counts attempts that failed or whose worker was lost; a hand-back on shutdown is not charged. */
    failures: p.integer().default(0),
    /** The fence: a fresh one for each claim, in the WHERE of every write of that claim's worker. */
    leaseToken: p.uuid().nullable(),
    leaseUntil: timeColumn().nullable(),
    /** Who claimed it last, as `host/pid`: who holds it while there is a lease, and who held it. */
    claimedBy: p.string().length(255).nullable(),
    /** When it was claimed last. */
    claimedAt: timeColumn().nullable(),
    /** When the first text of the attempt was stored. */
    attemptFirstTokenAt: timeColumn().nullable(),
    /** The attempts that came to no answer and were followed by another, the newest 20, oldest first. */
    pastAttempts: p.json<PastAttempt[]>().defaultRaw(`'[]'::jsonb`),
    /** Not to be claimed before; null while an earlier reply of the session is unfinished. */
    availableAt: timeColumn().nullable(),
    /** Failed as expired after; null while an earlier reply of the session is unfinished. */
    deadlineAt: timeColumn().nullable(),
    /** A cancel that was accepted: no worker claims it any more, and it will be cancelled, by the reconciler if need be. */
    cancelRequestedAt: timeColumn().nullable(),
    /** Who asked for that first. */
    cancelledBy: p.string().length(16).$type<CancelledBy>().nullable(),
    /** Numbers the jobs enqueued for it: a job id is never used twice. */
    dispatchCount: p.integer().default(0),
    /** When its last job was enqueued; null: one has to be. */
    dispatchedAt: timeColumn().nullable(),

    /** The text so far, about once a second, should the event stream be lost. */
    partialText: p.text().nullable(),
    model: p.string().length(255).nullable(),
    /** How many of the chatbot's characteristics the prompt held, and of how many; null: none was built. */
    characteristicsUsed: p.integer().nullable(),
    characteristicsOf: p.integer().nullable(),
    /** How many messages made it: those that joined it, and none of a retry, whose messages another has counted. */
    messageCount: p.integer().default(0),
    /** What its call may come to, counted against its chatbot's budget of the day as long as the attempt goes on. */
    reservedTokens: p.integer().nullable(),
    /** Whether the chatbot's use of the day has it. */
    isCounted: p.boolean().default(false),
    finishReason: p.enum(Object.values(ReplyFinishReason)).nullable(),
    inputTokens: p.integer().nullable(),
    outputTokens: p.integer().nullable(),
    isUsageEstimated: p.boolean().default(false),
    /** What earlier attempts came to whose text is not in the answer: it counts against the budget, and as the chatbot's use. */
    spentInputTokens: p.integer().default(0),
    spentOutputTokens: p.integer().default(0),
    errorCode: p.enum(Object.values(ReplyErrorCode)).nullable(),

    createdAt: createdAtColumn(),
    startedAt: timeColumn().nullable(),
    firstTokenAt: timeColumn().nullable(),
    finishedAt: timeColumn().nullable(),
    /** When its end was published; null on a finished reply: it has to be. */
    announcedAt: timeColumn().nullable(),
  },
  indexes: [
    { name: 'replies_newest_index', properties: ['chatSession', 'createdAt', 'id'] }, // a session's newest replies; its foreign key
    { name: 'replies_retry_of_index', properties: ['retryOf'], where: 'retry_of_id is not null' },
    // What the reconciler looks for: few rows at any time, whatever the table has grown to.
    { name: 'replies_unfinished_index', properties: ['availableAt'], where: 'finished_at is null' },
    // What the use of the day has not yet: the unfinished, and for seconds the finished.
    { name: 'replies_uncounted_index', properties: ['chatbotId', 'availableAt'], where: 'not is_counted' },
    {
      name: 'replies_unannounced_index',
      properties: ['finishedAt'],
      where: 'finished_at is not null and announced_at is null',
    },
  ],
  uniques: [
    { name: 'replies_one_queued_per_session', properties: ['chatSession'], where: "status = 'queued'" },
    {
      name: 'replies_one_in_progress_per_session',
      properties: ['chatSession'],
      where: "status = 'in_progress'",
    },
  ],
  triggers: [
    {
      name: 'fill_chatbot',
      timing: 'before',
      events: ['insert'],
      when: '(new.chatbot_id IS NULL)', // as PostgreSQL shows it, which the ORM compares it with
      body: `select chatbot_id into new.chatbot_id from chat_sessions where id = new.chat_session_id;
    return new;`,
    },
  ],
  checks: [
    { name: 'replies_lease_only_in_progress', expression: "lease_token is null or status = 'in_progress'" },
    { name: 'replies_lease_is_whole', expression: '(lease_token is null) = (lease_until is null)' },
    {
      name: 'replies_end_exactly_when_final',
      expression: "(status in ('completed', 'failed', 'cancelled')) = (finished_at is not null)",
    },
    {
      name: 'replies_error_exactly_when_failed',
      expression: "(status = 'failed') = (error_code is not null)",
    },
  ],
});

/**
 * The unit of work: a row made in the transaction of the user message it answers. It is the outbox, the state
 * machine and the record of one answer. Its constraints hold the promises: at most one queued and one in
 * progress per session, a lease only while in progress, an end exactly when final.
 */
export class Reply extends ReplySchema.class {}
ReplySchema.setClass(Reply);
export { ReplySchema };

declare module '../database/tables.js' {
  interface Tables {
    replies: TableOf<typeof ReplySchema>;
  }
}
