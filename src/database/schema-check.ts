import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from './database.js';
import { migrations } from './migrations/index.js';

/** Whether the database's schema is at least the one that this code was written for. */
@Injectable()
export class SchemaCheck {
  constructor(private readonly database: Database) {}

  /** The migrations that the database has not seen yet; a newer schema than ours has none. */
  async pending(): Promise<string[]> {
    const [table] = await this.database.run(
      sql<{ exists: boolean }>`select to_regclass('mikro_orm_migrations') is not null as exists`,
    );
    const names = migrations.map((migration) => migration.name);
    if (!table?.exists) return names;
    const done = await this.database.run(sql<{ name: string }>`select name from mikro_orm_migrations`);
    const seen = new Set(done.map(({ name }) => name));
    return names.filter((name) => !seen.has(name));
  }
}
