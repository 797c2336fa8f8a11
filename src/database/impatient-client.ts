import pg from 'pg';

/** The message of pg's error when `query_timeout` is over. */
const SILENCE = 'Query read timeout';

/**
 * A connection that is dropped when a statement stays without an answer. pg by itself gives up on the statement, but
 * keeps the connection, and the next one to borrow it would wait behind it for the same silent server: one that has
 * vanished without closing holds a connection for a quarter of an hour.
 */
export class ImpatientClient extends pg.Client {
  constructor(config?: pg.ClientConfig) {
    super(config);
    const query = this.query.bind(this) as (...args: unknown[]) => unknown;
    this.query = (...args: unknown[]) => {
      const result = query(...args) as Promise<never>;
      if (typeof result?.catch === 'function') {
        result.catch((error: unknown) => {
          if (error instanceof Error && error.message === SILENCE) this.connection.stream.destroy();
        });
      }
      return result;
    };
  }
}
