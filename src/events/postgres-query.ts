import type pg from 'pg';
import { STREAM_DEADLINE_MS } from './event-stream.js';

/**
 * One statement on a pooled connection. The timeout is pg's own, as it also drops the connection from the pool:
 * one whose server is silent must not be lent again. The wait for a connection is not in it.
 */
export function query<Row extends pg.QueryResultRow>(
  pool: pg.Pool,
  text: string,
  values: unknown[],
): Promise<pg.QueryResult<Row>> {
  // Missing in the types of a single query's settings.
  const config: pg.QueryConfig & { query_timeout: number } = {
    text,
    values,
    query_timeout: STREAM_DEADLINE_MS,
  };
  return pool.query<Row>(config);
}
