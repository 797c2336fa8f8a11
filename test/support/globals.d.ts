/** What the global teardown has to end. */
declare var assistlyTestServices: (() => Promise<void>)[];
/** Which store a run of the end-to-end suite uses beside PostgreSQL's rows. */
declare var BACKEND: 'postgres' | 'redis' | undefined;
/** Whether there is a Redis to test with. */
declare var HAS_REDIS: boolean | undefined;
