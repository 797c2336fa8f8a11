import { Injectable } from '@nestjs/common';
import { LATEST_SCHEMA_VERSION } from 'bullmq';
import { sql } from 'kysely';
import { Database } from './database.js';
import { migrations } from './migrations/index.js';

/** Whether the database's schema, BullMQ's part of it included, is at least the one that this code was written for. */
@Injectable()
export class SchemaCheck {
  constructor(private readonly database: Database) {}

  /** The migrations that the database has not seen yet; a newer schema than ours has none. */
  async pending(): Promise<string[]> {
    const [tables] = await this.database.run(
      sql<{ ours: boolean; bullmq: boolean }>`select to_regclass('mikro_orm_migrations') is not null as ours,
        to_regclass('bullmq.migration') is not null as bullmq`,
    );
    const done = tables?.ours
      ? await this.database.run(sql<{ name: string }>`select name from mikro_orm_migrations`)
      : [];
    const [bullmq] = tables?.bullmq
      ? await this.database.run(
          sql<{ version: number | null }>`select max(version)::int as version from bullmq.migration`,
        )
      : [];
    const seen = new Set(done.map(({ name }) => name));
    const pending = migrations.map(({ name }) => name).filter((name) => !seen.has(name));
    if ((bullmq?.version ?? 0) < LATEST_SCHEMA_VERSION) pending.push(`BullMQ ${LATEST_SCHEMA_VERSION}`);
    return pending;
  }

  /**
   * The oldest major version of BullMQ that may use the tables, which a newer one may have migrated.
   *
   * @throws where there are no such tables
   */
  async neededBullmq(): Promise<number> {
    const [needed] = await this.database.run(
      // The first versions of the ledger lack the column.
      sql<{ major: number | null }>`select max((to_jsonb(migration) ->> 'min_client_version')::int) as major
        from bullmq.migration`,
    );
    return needed?.major ?? 0;
  }
}
