import type { JobsOptions } from 'bullmq';
import { z } from 'zod';
import { type JobOf, type QueueContract, readJob } from '../queue/job-contract.js';

/**
 * The contract of the queue of replies: names, payloads, options, job ids. A job carries ids only, so that what people
 * wrote never goes into the queue, and what to do is read from the rows; so a job may come twice, late or never
 * without harm.
 *
 * Two versions of the product share the queue during a deployment. A payload that changes its meaning, or loses a
 * field, gets another `version`; a worker leaves alone what it does not know, and the reconciler enqueues the reply
 * again.
 */

/** Work on a reply, if there is work to do. */
const generateJob = z.object({
  version: z.literal(1),
  replyId: z.uuid(),
  sessionId: z.uuid(),
  /** Missing in jobs of before there were shares. */
  chatbotId: z.uuid().nullish(),
  /** The nth job of this reply. */
  number: z.int().positive(),
  /** Of the request that caused it. */
  requestId: z.string().nullable(),
});
export type GenerateJob = z.infer<typeof generateJob>;

/** Count the tokens of what owners wrote: whatever is uncounted, so one job is enough at a time. */
const countTokensJob = z.object({ version: z.literal(1) });

/** Every job of this queue, by name. */
export interface ReplyJobs {
  generate: GenerateJob;
  count_tokens: z.infer<typeof countTokensJob>;
}
type ReplyJob = JobOf<ReplyJobs>;

export const REPLY_QUEUE: QueueContract<ReplyJobs> = {
  queue: 'replies',
  part: 'queue',
  payloads: { generate: generateJob, count_tokens: countTokensJob },
  options: {
    attempts: 1, // the row schedules the retry, as a new job
    removeOnComplete: { age: 3_600, count: 1_000 }, // for Bull Board to show; seconds
    removeOnFail: { age: 86_400, count: 1_000 },
    stackTraceLimit: 0, // the log has it
  },
};

/** A job id is never used twice: BullMQ silently ignores an id that it has, finished jobs included. */
export const jobIdOf = (replyId: string, number: number): string => `r-${replyId}-${number}`;

/** There is one such job at a time: it goes at once when it has ended, and only then another can be added. */
export const COUNT_TOKENS_OPTIONS = {
  jobId: 'count-tokens',
  removeOnComplete: true,
  removeOnFail: true,
} as const satisfies JobsOptions;

/** A job of this queue, checked; null: it is to be left alone. */
export const readReplyJob = (job: { name: string; data: unknown }): ReplyJob | null =>
  readJob(REPLY_QUEUE, job);
