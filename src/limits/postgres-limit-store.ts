import { sql } from 'kysely';
import { type Database, runOn } from '../database/database.js';
import { type Count, type Held, type Hit, type Hold, HOLD_SECONDS, LimitStore } from './limit-store.js';

/** How often rows whose window is over are deleted, in milliseconds. */
const PRUNE_INTERVAL_MS = 60_000;
/** How many keys are known to be at their limit; one that is forgotten is asked for again. */
const MAX_BLOCKED = 10_000;

/** Counts in a table, by one function for all hits of a request. */
export class PostgresLimitStore extends LimitStore {
  /** Keys at their limit, and until when: a flood costs a lookup here, and no row that everybody waits for. */
  private readonly blocked = new Map<string, { max: number; until: number }>();
  private readonly timer: NodeJS.Timeout;

  constructor(private readonly database: Database) {
    super();
    this.timer = setInterval(() => void this.prune(), PRUNE_INTERVAL_MS).unref();
  }

  override async take(hits: readonly Hit[]): Promise<Count[]> {
    const now = performance.now();
    const blocked = hits.findIndex((hit) => this.isBlocked(hit, now));
    if (blocked >= 0) {
      // Those before it are not asked about: nobody needs to know them of a request that is refused.
      const { key, max } = hits[blocked]!;
      const before = hits
        .slice(0, blocked)
        .map(({ windowSeconds }) => ({ hits: 0, resetMs: windowSeconds * 1000 }));
      return [...before, { hits: max + 1, resetMs: this.blocked.get(key)!.until - now }];
    }
    const counted = await this.database.write((db) =>
      runOn(
        db,
        sql<{ hits: number; reset_ms: number }>`
          select hits, reset_ms from count_hits(
            ${hits.map(({ key }) => key)}::text[], ${hits.map(({ max }) => max)}::int[],
            ${hits.map(({ windowSeconds }) => windowSeconds)}::int[])`,
      ),
    );
    const counts = counted.map(({ hits: count, reset_ms }) => ({
      hits: count,
      resetMs: Math.max(1, reset_ms),
    }));
    const last = counts.at(-1);
    const { key, max } = hits[counts.length - 1]!;
    if (last && last.hits > max) {
      if (this.blocked.size >= MAX_BLOCKED) this.blocked.clear();
      this.blocked.set(key, { max, until: now + last.resetMs });
    }
    return counts;
  }

  override async look({ key }: Hit): Promise<Count | null> {
    const [count] = await this.database.read((db) =>
      runOn(
        db,
        sql<Count>`
          select hits, ceil(extract(epoch from ends_at - clock_timestamp()) * 1000)::int as "resetMs"
          from rate_limits where key = ${key} and ends_at > clock_timestamp()`,
      ),
    );
    return count ?? null;
  }

  /** Not by a limit that was another one then. */
  private isBlocked({ key, max }: Hit, now: number): boolean {
    const block = this.blocked.get(key);
    if (block && (block.until <= now || block.max !== max)) this.blocked.delete(key);
    return this.blocked.has(key);
  }

  override async hold(holds: readonly Hold[], holder: string): Promise<number[]> {
    const places = await this.database.write((db) =>
      runOn(
        db,
        sql<{ used: number }>`
          select used from take_places(${holds.map(({ key }) => key)}::text[],
            ${holds.map(({ max }) => max)}::int[], ${holder}::uuid, ${HOLD_SECONDS}) as used`,
      ),
    );
    return places.map(({ used }) => used);
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
