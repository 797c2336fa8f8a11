import type { DefaultJobOptions } from 'bullmq';
import type { ZodType } from 'zod';

/** A table of jobs: the name of each, and what it carries. */
export type JobTable<Jobs> = Record<keyof Jobs, object>;

/** What the two sides of a queue agree on. Each queue has one file with its contract, which api and worker import. */
export interface QueueContract<Jobs extends JobTable<Jobs>> {
  /** The queue's name, in BullMQ and on its board. */
  queue: string;
  /** How readiness calls the queue. */
  part: string;
  /** Checks what a job carries: it was added by a process that may be of another version. */
  payloads: { [Name in keyof Jobs]: ZodType<Jobs[Name]> };
  /** Of every job, unless `add` says otherwise. */
  options: DefaultJobOptions;
}

/** A job of a table: its name determines its payload. */
export type JobOf<Jobs> = {
  [Name in keyof Jobs & string]: { name: Name; data: Jobs[Name] };
}[keyof Jobs & string];

/**
 * Reads a job that came out of a queue.
 *
 * @returns null where its name is unknown, or its payload, the version included, is not what the name promises: it
 *   was added by a newer version of the product, or by hand
 */
export function readJob<Jobs extends JobTable<Jobs>>(
  { payloads }: QueueContract<Jobs>,
  { name, data }: { name: string; data: unknown },
): JobOf<Jobs> | null {
  if (!isNameOf(payloads, name)) return null;
  const payload = payloads[name].safeParse(data);
  return payload.success ? { name, data: payload.data } : null;
}

const isNameOf = <Names extends object>(table: Names, name: string): name is keyof Names & string =>
  Object.hasOwn(table, name);
