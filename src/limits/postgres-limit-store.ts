import { sql } from 'kysely';
import { type Database, runOn } from '../database/database.js';
import { type Exceeded, type Held, type Hit, type Hold, HOLD_SECONDS, LimitStore } from './limit-store.js';

/** How often rows whose window is over are deleted, in milliseconds. */
const PRUNE_INTERVAL_MS = 60_000;
/** How many keys are known to be at their limit; one that is forgotten is asked for again. */
const MAX_BLOCKED = 10_000;

/** Counts in a table, by one function for all hits of a request. */
export class PostgresLimitStore extends LimitStore {
  /** Keys at their limit, and until when: a flood costs a lookup here, and no row that everybody waits for. */
  private readonly blocked = new Map<string, number>();
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly database: Database) {
    super();
    this.timer = setInterval(() => void this.prune(), PRUNE_INTERVAL_MS).unref();
  }

  override async take(hits: readonly Hit[]): Promise<Exceeded | null> {
    const now = performance.now();
    for (const [index, { key }] of hits.entries()) {
      const until = this.blocked.get(key);
      if (until !== undefined && until > now) return { index, retryAfterMs: until - now };
      this.blocked.delete(key);
    }
    const [exceeded] = await this.database.write((db) =>
      runOn(
        db,
        sql<{ place: number; retry_after_ms: number }>`
          select place, retry_after_ms::float8 from take_limits(
            ${hits.map(({ key }) => key)}::text[], ${hits.map(({ max }) => max)}::int[],
            ${hits.map(({ windowSeconds }) => windowSeconds)}::int[])`,
      ),
    );
    if (!exceeded) return null;
    const index = exceeded.place - 1;
    const retryAfterMs = Math.max(1, exceeded.retry_after_ms);
    if (this.blocked.size >= MAX_BLOCKED) this.blocked.clear();
    this.blocked.set(hits[index]!.key, now + retryAfterMs);
    return { index, retryAfterMs };
  }

  override async hold(holds: readonly Hold[], holder: string): Promise<number | null> {
    const [full] = await this.database.write((db) =>
      runOn(
        db,
        sql<{ place: number | null }>`
          select hold_places(${holds.map(({ key }) => key)}::text[], ${holds.map(({ max }) => max)}::int[],
            ${holder}::uuid, ${HOLD_SECONDS}) as place`,
      ),
    );
    return full?.place == null ? null : full.place - 1;
  }

  override async keep(held: readonly Held[]): Promise<void> {
    await this.database.write((db) =>
      runOn(
        db,
        sql`update held_places set until = clock_timestamp() + ${HOLD_SECONDS} * interval '1 second'
          where holder = any(${held.map(({ holder }) => holder)}::uuid[])`,
      ),
    );
  }

  override async letGo(held: readonly Held[]): Promise<void> {
    const holders = held.map(({ holder }) => holder);
    await this.database.write((db) =>
      runOn(db, sql`delete from held_places where holder = any(${holders}::uuid[])`),
    );
  }

  override async close(): Promise<void> {
    clearInterval(this.timer);
  }

  /** Another process may be at it; what is left goes the next time. */
  async prune(): Promise<void> {
    await this.database
      .write((db) => runOn(db, sql`delete from rate_limits where ends_at < clock_timestamp()`))
      .catch(() => undefined);
    await this.database
      .write((db) => runOn(db, sql`delete from held_places where until < clock_timestamp()`))
      .catch(() => undefined);
  }
}
