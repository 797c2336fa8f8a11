import { Injectable } from '@nestjs/common';
import { LATEST_SCHEMA_VERSION } from 'bullmq';
import { sql } from 'kysely';
import { Database, runOn } from './database.js';
import { migrations } from './migrations/index.js';

/** How the database's schema, BullMQ's part of it included, stands to what this code was written for. */
interface SchemaState {
  /** The migrations that the database has not seen yet; a newer schema than ours has none. */
  pending: string[];
  /** The oldest major version of BullMQ that may use the tables, which a newer one may have migrated; 0: any. */
  neededBullmq: number;
}

@Injectable()
export class SchemaCheck {
  /** The ledgers of migrations that are there; none goes away again. */
  private ledgers = { ours: false, bullmq: false };

  constructor(private readonly database: Database) {}

  /** One statement, once there are ledgers: who probes a busy process waits for a connection of its pool once. */
  async look(): Promise<SchemaState> {
    const { ours, bullmq } = await this.findLedgers();
    const nothing = sql`null`;
    const [row] = await this.database.readOnce((db) =>
      runOn(
        db,
        sql<{ names: string[] | null; version: number | null; major: number | null }>`select
        ${ours ? sql`(select array_agg(name) from mikro_orm_migrations)` : nothing} as names,
        ${bullmq ? sql`(select max(version)::int from bullmq.migration)` : nothing} as version,
        ${
          // The first versions of BullMQ's ledger lack the column.
          bullmq
            ? sql`(select max((to_jsonb(migration) ->> 'min_client_version')::int) from bullmq.migration)`
            : nothing
        } as major`,
      ),
    );
    const seen = new Set(row?.names);
    const pending = migrations.map(({ name }) => name).filter((name) => !seen.has(name));
    if ((row?.version ?? 0) < LATEST_SCHEMA_VERSION) pending.push(`BullMQ ${LATEST_SCHEMA_VERSION}`);
    return { pending, neededBullmq: row?.major ?? 0 };
  }

  private async findLedgers(): Promise<{ ours: boolean; bullmq: boolean }> {
    if (!this.ledgers.ours || !this.ledgers.bullmq) {
      const [found] = await this.database.readOnce((db) =>
        runOn(
          db,
          sql<{
            ours: boolean;
            bullmq: boolean;
          }>`select to_regclass('mikro_orm_migrations') is not null as ours,
          to_regclass('bullmq.migration') is not null as bullmq`,
        ),
      );
      if (found) this.ledgers = found;
    }
    return this.ledgers;
  }
}
