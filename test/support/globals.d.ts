/** What the global teardown has to end. */
declare var assistlyTestServices: (() => Promise<void>)[];
/** Which store a run of the end-to-end suite uses beside PostgreSQL's rows. */
declare var BACKEND: 'postgres' | 'redis' | undefined;
/** Imports a module of the built product by its path under `src/`, without Jest (product-environment.mjs). */
declare var importProduct: <Module>(path: string) => Promise<Module>;
/** Imports a module of `test/support`, without Jest (product-environment.mjs). */
declare var importSupport: <Module>(path: string) => Promise<Module>;
/** Whether there is a Redis to test with. */
declare var HAS_REDIS: boolean | undefined;
/** Path of a Chromium to test with, where there is one. */
declare var CHROMIUM: string | null;
