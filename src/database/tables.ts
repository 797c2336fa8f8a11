import type { EntitySchemaWithMeta } from '@mikro-orm/core';
import type { InferKyselyTable } from '@mikro-orm/postgresql';
import type { Generated, Kysely, Selectable, Transaction } from 'kysely';
import type { IdempotencyKeySchema } from './idempotency-key.entity.js';

/**
 * The tables as statements see them, inferred from the entities: a column that is misspelt or dropped does not
 * compile. Each entity adds its own beside its schema, since this folder knows no feature.
 */
export interface Tables {
  idempotency_keys: TableOf<typeof IdempotencyKeySchema>;
}

/** The columns of an entity, with the values that the driver gives for them. */
export type TableOf<Schema extends EntitySchemaWithMeta> = {
  [Column in keyof InferKyselyTable<Schema>]: DriverValue<InferKyselyTable<Schema>[Column]>;
};

/** The driver gives a time as text, so that nothing of it is lost; `isoTime` shows it as the API does. */
type DriverValue<Value> =
  Value extends Generated<Date> ? Generated<string> : Value extends Date ? string : Value;

/** A row of a table, as `select *` gives it. */
export type Row<Table extends keyof Tables> = Selectable<Tables[Table]>;

/** What statements are written on: the pool, or a transaction. */
export type Db = Kysely<Tables>;
/** A transaction: what asks for one cannot be called without. */
export type Tx = Transaction<Tables>;
