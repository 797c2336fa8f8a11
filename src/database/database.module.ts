import { type DynamicModule, Inject, Module, type OnModuleInit } from '@nestjs/common';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import type { Pool } from 'pg';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Metrics } from '../metrics/metrics.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { Database } from './database.js';
import { SchemaCheck } from './schema-check.js';

/** Injection token of the `pg.Pool` that the ORM and the event stream share. */
export const POSTGRES_POOL = Symbol('POSTGRES_POOL');
const CONNECTIONS = Symbol('CONNECTIONS');
const ORM_OPTIONS = Symbol('ORM_OPTIONS');

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

@Module({})
class OrmOptionsModule {}

/** PostgreSQL. */
@Module({
  imports: [RuntimeModule, MetricsModule],
  providers: [
    { provide: CONNECTIONS, inject: [CONFIG, ORM_OPTIONS], useFactory: createConnections },
    { provide: MikroORM, inject: [CONNECTIONS], useFactory: ({ orm }: Connections) => orm },
    { provide: POSTGRES_POOL, inject: [CONNECTIONS], useFactory: ({ pool }: Connections) => pool },
    Database,
    SchemaCheck,
  ],
  exports: [Database, SchemaCheck, POSTGRES_POOL],
})
export class DatabaseModule implements OnModuleInit {
  /** Global, as the configuration is: said once by the application, and the same for whoever imports the module. */
  static withOptions(ormOptions: OrmOptions): DynamicModule {
    return {
      module: OrmOptionsModule,
      global: true,
      providers: [{ provide: ORM_OPTIONS, useValue: ormOptions }],
      exports: [ORM_OPTIONS],
    };
  }

  constructor(
    private readonly database: Database,
    private readonly schema: SchemaCheck,
    private readonly readiness: Readiness,
    private readonly shutdown: Shutdown,
    @Inject(POSTGRES_POOL) private readonly pool: Pool,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const { metrics, pool } = this;
    metrics.poolMax.set(pool.options.max);
    metrics.beforeScrape(() => {
      metrics.poolConnections.set({ state: 'busy' }, pool.totalCount - pool.idleCount);
      metrics.poolConnections.set({ state: 'idle' }, pool.idleCount);
      metrics.poolWaiting.set(pool.waitingCount);
    });
    this.shutdown.register(ShutdownPhase.Disconnect, () => this.database.close());
    this.readiness.register('database', async () => {
      await this.database.run(sql`select 1`);
    });
    this.readiness.register('migrations', async () => {
      const { pending } = await this.schema.look();
      if (pending.length > 0) throw new MissingPartError(`not run yet: ${pending.join(', ')}`);
    });
  }
}
