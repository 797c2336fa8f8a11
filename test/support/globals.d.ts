declare global {
  /** What the global teardown has to end. */
  var assistlyTestServices: (() => Promise<void>)[];
  /** Which store a run of the end-to-end suite uses beside PostgreSQL's rows. */
  var BACKEND: 'postgres' | 'redis' | undefined;
  /** Whether there is a Redis to test with. */
  var HAS_REDIS: boolean | undefined;
}

export {};
