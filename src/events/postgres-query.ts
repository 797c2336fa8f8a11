import type pg from 'pg';

/**
 * One statement on a pooled connection. The timeout is pg's own, as it also drops the connection from the pool:
 * one whose server is silent must not be lent again. The wait for a connection is not in it.
 */
export function query<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
  deadlineMs: number,
  text: string,
  values: unknown[],
): Promise<pg.QueryResult<Row>> {
  // Missing in the types of a single query's settings.
  const config: pg.QueryConfig & { query_timeout: number } = {
    text,
    values,
    query_timeout: deadlineMs,
  };
  return pool.query<Row>(config);
}
