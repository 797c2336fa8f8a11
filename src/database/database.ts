import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { MikroORM } from '@mikro-orm/postgresql';
import { type RawBuilder, sql } from 'kysely';
import { isDatabaseUnavailable, isUndone } from './database-errors.js';
import type { Db, Tables, Tx } from './tables.js';
import { within } from '../runtime/within.js';

/** How often a unit that changes nothing by being done twice is tried: a restarted server fails each pooled connection once. */
const TRIES = 3;
/** It is not tried again after so long: who waits for a connection, or a lock, has waited enough by then. */
const RETRY_WITHIN_MS = 1_500;
/** Longest wait for statements under way when the process stops, and for the connections to close. */
const CLOSE_TIMEOUT_MS = 3_000;

/** Whether a unit may be done again although an earlier try may have been committed: then it is, like a read. */
interface Repetition {
  isRepeatable?: boolean;
}

/**
 * How the services reach PostgreSQL, and the only way: shutdown waits for every unit of work, and a lost connection
 * fails no unit that may be repeated. Statements are written with Kysely, which knows the columns from the entities
 * and binds values. What must hold under a race is in their WHERE, and its caller looks at the rows that come back.
 */
@Injectable()
export class Database {
  private readonly running = new Set<Promise<unknown>>();
  private isClosed = false;
  private readonly db: Db;

  constructor(private readonly orm: MikroORM) {
    this.db = orm.em.fork().getKysely<Tables>();
  }

  /** Reads; once more where the connection was lost or the server passed. */
  async read<T>(query: (db: Db) => Promise<T>): Promise<T> {
    return this.retrying(() => this.readOnce(query), true);
  }

  /** Reads without a second try: for a probe, and for what looks again by itself. */
  async readOnce<T>(query: (db: Db) => Promise<T>): Promise<T> {
    return this.track(() => query(this.db));
  }

  /** Runs one statement that changes rows, on a connection of its own. */
  async write<T>(statement: (db: Db) => Promise<T>, { isRepeatable = false }: Repetition = {}): Promise<T> {
    return this.retrying(() => this.track(() => statement(this.db)), isRepeatable);
  }

  /** @param work begins anew where the server has undone it for another's sake, so it changes nothing but rows */
  async transaction<T>(work: (tx: Tx) => Promise<T>, { isRepeatable = false }: Repetition = {}): Promise<T> {
    const once = () => this.orm.em.fork().transactional((em) => work(em.getTransactionContext<Tx>()!));
    return this.retrying(() => this.track(once), isRepeatable);
  }

  /**
   * Closes the connections, once what is under way has ended: Kysely loses a connection that is being opened while
   * it closes, and its pool then waits for that one for ever.
   */
  async close(): Promise<void> {
    this.isClosed = true;
    await within(CLOSE_TIMEOUT_MS, Promise.allSettled(this.running)).catch(() => undefined);
    await within(CLOSE_TIMEOUT_MS, this.orm.close(true));
  }

  private async track<T>(work: () => Promise<T>): Promise<T> {
    if (this.isClosed) throw new Error('the database is closed: the process stops');
    const unit = work();
    this.running.add(unit);
    try {
      return await unit;
    } finally {
      this.running.delete(unit);
    }
  }

  private async retrying<T>(work: () => Promise<T>, isRepeatable: boolean): Promise<T> {
    const startedAt = performance.now();
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const isLate = performance.now() - startedAt > RETRY_WITHIN_MS;
        const mayRepeat = isUndone(error) || (isRepeatable && isDatabaseUnavailable(error));
        if (attempt >= TRIES || isLate || !mayRepeat) throw error;
        await sleep(50 * attempt * (1 + Math.random()));
      }
    }
  }
}

/** Runs a statement that is written as SQL. */
export async function runOn<Row>(db: Db, query: RawBuilder<Row>): Promise<Row[]> {
  return (await query.execute(db)).rows;
}

/** PostgreSQL's time: the clocks of processes differ. */
export const now = sql<string>`clock_timestamp()`;

/** ISO 8601, UTC, milliseconds: how the API shows times, which the driver gives as text. */
export const isoTime = (time: string): string => new Date(time).toISOString();
export const isoTimeOrNull = (time: string | null): string | null => (time === null ? null : isoTime(time));
