/** Injection token of the `pg.Pool` that the ORM and the event stream share. */
export const POSTGRES_POOL = Symbol('POSTGRES_POOL');
