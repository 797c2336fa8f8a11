import type pg from 'pg';
import type { AppendResult } from './event-stream.js';
import { query } from './postgres-query.js';

/** Sessions that one statement appends to. */
const MAX_BATCH = 100;
/** Statements under way: each is a commit, and while some are waited for, what comes is gathered for the next. */
const MAX_UNDER_WAY = 2;

interface Append {
  sessionId: string;
  /** JSON of its entries' records. */
  records: string;
  resolve: (result: AppendResult) => void;
  reject: (error: unknown) => void;
}

/**
 * Appends to the streams of many sessions in one statement, and so in one commit: a worker whose replies all speak would have
 * one for each of them, twenty times a second.
 */
export class PostgresAppends {
  private waiting: Append[] = [];
  /** Sessions that a statement under way appends to: what comes for them waits for it, and so keeps its order. */
  private readonly busy = new Set<string>();
  private underWay = 0;
  private isScheduled = false;

  constructor(
    private readonly pool: pg.Pool,
    private readonly deadlineMs: number,
  ) {}

  /** @param records JSON of the entries' records */
  append(sessionId: string, records: string): Promise<AppendResult> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ sessionId, records, resolve, reject });
      this.schedule();
    });
  }

  /** After what else comes in this turn of the event loop. */
  private schedule(): void {
    if (this.isScheduled || this.underWay >= MAX_UNDER_WAY || this.waiting.length === 0) return;
    this.isScheduled = true;
    setImmediate(() => {
      this.isScheduled = false;
      const batch = this.take();
      if (batch.length === 0) return; // until what is under way has ended
      void this.send(batch);
      this.schedule();
    });
  }

  private take(): Append[] {
    const taken: Append[] = [];
    const left: Append[] = [];
    for (const one of this.waiting) {
      (taken.length < MAX_BATCH && !this.busy.has(one.sessionId) ? taken : left).push(one);
    }
    this.waiting = left;
    return taken;
  }

  private async send(batch: readonly Append[]): Promise<void> {
    this.underWay++;
    for (const { sessionId } of batch) this.busy.add(sessionId);
    try {
      await this.appendTo(batch);
    } catch (error) {
      // What one of them has is not the others' fault.
      if (batch.length === 1) batch[0]!.reject(error);
      else await Promise.all(batch.map((one) => this.appendTo([one]).catch(one.reject)));
    } finally {
      this.underWay--;
      for (const { sessionId } of batch) this.busy.delete(sessionId);
      this.schedule();
    }
  }

  /** In the order of the sessions, so that two statements wait for each other's streams in one direction. */
  private async appendTo(batch: readonly Append[]): Promise<void> {
    const sorted = batch.toSorted((a, b) =>
      a.sessionId < b.sessionId ? -1 : a.sessionId > b.sessionId ? 1 : 0,
    );
    const { rows } = await query<{ result: string }>(
      this.pool,
      this.deadlineMs,
      `select event_stream_append(session_id, records)::text as result
       from unnest($1::uuid[], $2::jsonb[]) with ordinality as appended (session_id, records, n) order by n`,
      [sorted.map(({ sessionId }) => sessionId), sorted.map(({ records }) => records)],
    );
    for (const [index, { resolve }] of sorted.entries()) {
      resolve(JSON.parse(rows[index]!.result) as AppendResult);
    }
  }
}
