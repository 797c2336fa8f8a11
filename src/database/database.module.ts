import { type DynamicModule, Global, Inject, Module } from '@nestjs/common';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import type { Pool } from 'pg';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Metrics } from '../metrics/metrics.js';
import { Database, runOn } from './database.js';
import { SchemaCheck } from './schema-check.js';

/** Injection token of the `pg.Pool` that the ORM and the event stream share. */
export const POSTGRES_POOL = Symbol('POSTGRES_POOL');
const CONNECTIONS = Symbol('CONNECTIONS');

/**
 * The ORM's configuration, which names the entities of all features: the application hands it down.
 *
 * @param onPoolCreated gets the pool, which the event stream shares
 */
export type OrmOptions = (
  clientUrl: string | undefined,
  poolMax: number,
  onPoolCreated: (pool: Pool) => void,
) => Options;

interface Connections {
  orm: MikroORM;
  pool: Pool;
}

/** Makes the pool without a connection: a process starts, and says that it is not ready, without a database. */
function createConnections(config: Config, ormOptions: OrmOptions): Connections {
  let pool: Pool | undefined;
  const orm = new MikroORM(
    ormOptions(config.DATABASE_URL, config.DATABASE_POOL_MAX, (created) => {
      pool = created;
    }),
  );
  orm.em.getConnection().getClient();
  if (!pool) throw new Error('the ORM has made no pool');
  return { orm, pool };
}

@Global()
@Module({})
export class DatabaseModule {
  static forRoot(ormOptions: OrmOptions): DynamicModule {
    return {
      module: DatabaseModule,
      providers: [
        {
          provide: CONNECTIONS,
          inject: [CONFIG],
          useFactory: (config: Config) => createConnections(config, ormOptions),
        },
        { provide: MikroORM, inject: [CONNECTIONS], useFactory: ({ orm }: Connections) => orm },
        { provide: POSTGRES_POOL, inject: [CONNECTIONS], useFactory: ({ pool }: Connections) => pool },
        Database,
        SchemaCheck,
      ],
      exports: [Database, SchemaCheck, POSTGRES_POOL],
    };
  }

  constructor(
    database: Database,
    schema: SchemaCheck,
    readiness: Readiness,
    shutdown: Shutdown,
    @Inject(POSTGRES_POOL) pool: Pool,
    metrics: Metrics,
  ) {
    metrics.poolMax.set(pool.options.max);
    metrics.beforeScrape(() => {
      metrics.poolConnections.set({ state: 'busy' }, pool.totalCount - pool.idleCount);
      metrics.poolConnections.set({ state: 'idle' }, pool.idleCount);
      metrics.poolWaiting.set(pool.waitingCount);
    });
    shutdown.register(ShutdownPhase.Disconnect, () => database.close());
    readiness.register('database', async () => {
      await database.readOnce((db) => runOn(db, sql`select 1`));
    });
    readiness.register('migrations', async () => {
      const { pending } = await schema.look();
      if (pending.length > 0) throw new MissingPartError(`not run yet: ${pending.join(', ')}`);
    });
  }
}
