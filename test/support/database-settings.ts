import { expect } from '@jest/globals';
import pg from 'pg';
import { IndependentClient } from '../../src/database/independent-client.js';
import type { TestDatabase } from './database.js';

/**
 * Defaults that somebody has given to a database (`ALTER DATABASE … SET`), each known to change how statements run or how
 * their values are written.
 */
export const FOREIGN_SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['DateStyle', 'German, DMY'],
  ['DateStyle', 'Postgres, DMY'],
  ['DateStyle', 'SQL, DMY'],
  ['TimeZone', 'Asia/Kathmandu'],
  ['timezone_abbreviations', 'India'],
  ['IntervalStyle', 'sql_standard'],
  ['bytea_output', 'escape'],
  ['xmlbinary', 'hex'],
  ['extra_float_digits', '-15'],
  ['client_encoding', 'LATIN1'],
  ['default_transaction_isolation', 'read uncommitted'],
  ['default_transaction_isolation', 'repeatable read'],
  ['default_transaction_isolation', 'serializable'],
  ['default_transaction_read_only', 'on'],
  ['default_transaction_deferrable', 'on'],
  ['statement_timeout', '150ms'],
  ['lock_timeout', '1ms'],
  ['idle_in_transaction_session_timeout', '100ms'],
  ['idle_session_timeout', '200ms'],
  ['transaction_timeout', '200ms'],
  ['search_path', "''"],
  ['search_path', 'nowhere'],
  ['search_path', 'elsewhere'],
  ['search_path', 'elsewhere, public'],
  ['standard_conforming_strings', 'off'],
  ['escape_string_warning', 'on'],
  ['backslash_quote', 'off'],
  ['quote_all_identifiers', 'on'],
  ['array_nulls', 'off'],
  ['transform_null_equals', 'on'],
  ['exit_on_error', 'on'],
  ['row_security', 'off'],
  ['check_function_bodies', 'off'],
  ['plan_cache_mode', 'force_generic_plan'],
  ['synchronous_commit', 'off'],
  ['client_min_messages', 'debug1'],
  ['lc_messages', 'C'],
  ['default_toast_compression', 'pglz'],
  ['enable_indexscan', 'off'],
  ['plpgsql.extra_errors', 'all'],
  ['plpgsql.variable_conflict', 'use_column'],
];

/**
 * Of several values for one setting the last one holds. Where a whole product is looked at, the times are such that a busy
 * machine alone does not use them up between two statements.
 */
export const ALL_TOGETHER: typeof FOREIGN_SETTINGS = Object.entries(Object.fromEntries(FOREIGN_SETTINGS)).map(
  ([name, value]) => [name, name.endsWith('_timeout') ? '3s' : value],
);

/** Other tables and functions of the same names, where a search path may lead. */
const ELSEWHERE = `
  create schema elsewhere;
  create table elsewhere.messages (nothing int);
  create table elsewhere.replies (nothing int);
  create table elsewhere.chat_sessions (nothing int);
  create table elsewhere.mikro_orm_migrations (id int, name text);
  create function elsewhere.event_stream_append(uuid, jsonb) returns jsonb language sql as 'select null::jsonb';`;

/** Gives a database defaults for all who connect from now on. */
export async function giveSettings(
  { query }: Pick<TestDatabase, 'query'>,
  settings: readonly (readonly [name: string, value: string])[],
  elsewhere = ELSEWHERE,
): Promise<void> {
  await query(`do $do$ begin if to_regnamespace('elsewhere') is null then ${elsewhere} end if; end $do$`);
  const [{ name } = { name: '' }] = await query<{ name: string }>('select current_database() as name');
  await query(`alter database ${name} reset all`);
  for (const [setting, value] of settings) {
    const words = setting === 'search_path' ? value : pg.escapeLiteral(value); // of that one, a list of names
    await query(`alter database ${name} set ${setting} to ${words}`);
  }
}

const LIMITS = {
  statement_timeout: 10_000,
  lock_timeout: 5_000,
  idle_in_transaction_session_timeout: 9_000,
};

/** How values are written, what a statement sees and may do: longer than the hostile limits allow. */
const PROBE = `
  select timestamptz '2026-03-04 05:06:07.089+00' as time, timestamp '2026-03-04 05:06' as local, interval '-1 day 2 hours' as span,
    '\\xff'::bytea as bytes, 0.1::float8 + 0.2 as number, '{NULL}'::text[] as list, $1::text as given,
    current_setting('transaction_isolation') as isolation, current_setting('transaction_read_only') as read_only,
    current_setting('transaction_deferrable') as is_deferrable, current_setting('exit_on_error') as is_fragile,
    current_setting('statement_timeout') as statement_timeout, current_setting('lock_timeout') as lock_timeout,
    current_setting('idle_in_transaction_session_timeout') as idle_timeout, to_regclass('messages')::oid::int as messages,
    pg_sleep(0.25)::text as slept`;
const TEXT = { getTypeParser: () => String } as unknown as pg.CustomTypesConfig;

/** What statements on a connection of the product see, alone and in a transaction, and after a failure. */
export async function probe(url: string): Promise<unknown[]> {
  const client = new IndependentClient({ connectionString: url, types: TEXT, limits: LIMITS });
  await client.connect();
  try {
    const alone = await client.query(PROBE, ['it\\n']);
    await client.query('begin');
    const inTransaction = await client.query(PROBE, ['it\\n']);
    await client.query('commit');
    await expect(client.query('select 1 / $1', [0])).rejects.toMatchObject({ code: '22012' });
    const again = await client.query('select $1::int as still_there', [1]);
    return [alone.rows, inTransaction.rows, again.rows];
  } finally {
    await client.end();
  }
}
