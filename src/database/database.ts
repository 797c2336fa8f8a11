import { Injectable } from '@nestjs/common';
import { MikroORM, type SqlEntityManager } from '@mikro-orm/postgresql';
import type { RawBuilder } from 'kysely';
import { isDatabaseUnavailable } from '../common/database-errors.js';

/** How often a unit that changes nothing by being done twice is tried: a restarted server fails each pooled connection once. */
const TRIES = 3;

/**
 * How the services reach PostgreSQL: a fresh EntityManager for each unit of work, since one that has failed, or
 * that read a row before, would answer from memory. What must hold under a race is written as SQL with bound
 * parameters, and its caller looks at the rows that come back.
 */
@Injectable()
export class Database {
  constructor(private readonly orm: MikroORM) {}

  fork(): SqlEntityManager {
    return this.orm.em.fork();
  }

  /** Runs one statement on a connection of its own. */
  async run<Row>(query: RawBuilder<Row>): Promise<Row[]> {
    return runOn(this.fork(), query);
  }

  /** Runs one statement that may be repeated safely, once more where the connection was lost or the server passed. */
  async runSafely<Row>(query: RawBuilder<Row>): Promise<Row[]> {
    return this.retrying(() => this.run(query));
  }

  async transaction<T>(work: (em: SqlEntityManager) => Promise<T>): Promise<T> {
    return this.fork().transactional((em) => work(em));
  }

  /** A transaction that may be repeated safely, although an earlier try may have been committed. */
  async safeTransaction<T>(work: (em: SqlEntityManager) => Promise<T>): Promise<T> {
    return this.retrying(() => this.transaction(work));
  }

  private async retrying<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        if (attempt >= TRIES || !isDatabaseUnavailable(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50 * attempt * (1 + Math.random())));
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
