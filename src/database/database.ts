import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { MikroORM, type SqlEntityManager } from '@mikro-orm/postgresql';
import type { RawBuilder } from 'kysely';
import { isDatabaseUnavailable } from './database-errors.js';
import { within } from '../runtime/within.js';

/** How often a unit that changes nothing by being done twice is tried: a restarted server fails each pooled connection once. */
const TRIES = 3;
/** It is not tried again after so long: who waits for a connection, or a lock, has waited enough by then. */
const RETRY_WITHIN_MS = 1_500;
/** Longest wait for statements under way when the process stops, and for the connections to close. */
const CLOSE_TIMEOUT_MS = 3_000;

/**
 * How the services reach PostgreSQL: a fresh EntityManager for each unit of work, since one that has failed, or
 * that read a row before, would answer from memory. What must hold under a race is written as SQL with bound
 * parameters, and its caller looks at the rows that come back.
 */
@Injectable()
export class Database {
  private readonly running = new Set<Promise<unknown>>();
  private isClosed = false;

  constructor(private readonly orm: MikroORM) {}

  fork(): SqlEntityManager {
    return this.orm.em.fork();
  }

  /** Runs one statement on a connection of its own. */
  async run<Row>(query: RawBuilder<Row>): Promise<Row[]> {
    return this.track(() => runOn(this.fork(), query));
  }

  /** Runs one statement that may be repeated safely, once more where the connection was lost or the server passed. */
  async runSafely<Row>(query: RawBuilder<Row>): Promise<Row[]> {
    return this.retrying(() => this.run(query));
  }

  async transaction<T>(work: (em: SqlEntityManager) => Promise<T>): Promise<T> {
    return this.track(() => this.fork().transactional((em) => work(em)));
  }

  /** A transaction that may be repeated safely, although an earlier try may have been committed. */
  async safeTransaction<T>(work: (em: SqlEntityManager) => Promise<T>): Promise<T> {
    return this.retrying(() => this.transaction(work));
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

  private async retrying<T>(work: () => Promise<T>): Promise<T> {
    const startedAt = performance.now();
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const isLate = performance.now() - startedAt > RETRY_WITHIN_MS;
        if (attempt >= TRIES || isLate || !isDatabaseUnavailable(error)) throw error;
        await sleep(50 * attempt * (1 + Math.random()));
      }
    }
  }
}

/** Runs one statement in the transaction of an EntityManager. */
export async function runOn<Row>(em: SqlEntityManager, query: RawBuilder<Row>): Promise<Row[]> {
  const result = await query.execute(em.getKysely<object>());
  return result.rows;
}

/** A `timestamptz` as the driver gives it: text, so that nothing is lost. */
export type TimeText = string;

/** ISO 8601, UTC, milliseconds: how the API shows times. */
export const isoTime = (time: TimeText | Date): string => new Date(time).toISOString();
export const isoTimeOrNull = (time: TimeText | Date | null): string | null =>
  time === null ? null : isoTime(time);
