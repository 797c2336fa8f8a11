import { type DynamicModule, Module, type OnModuleInit } from '@nestjs/common';
import { MikroORM, type Options } from '@mikro-orm/postgresql';
import type { Pool } from 'pg';
import { MissingPartError, Readiness } from '../runtime/readiness.js';
import { Shutdown, ShutdownPhase } from '../runtime/shutdown.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import type { PreparedStatements } from '../config/setting-types.js';
import { MetricsModule } from '../metrics/metrics.module.js';
import { RuntimeModule } from '../runtime/runtime.module.js';
import { Database } from './database.js';
import { PoolMetrics } from './pool-metrics.js';
import { POSTGRES_POOL } from './postgres-pool.js';
import { SchemaCheck } from './schema-check.js';
import { checkServer } from './server-check.js';

const CONNECTIONS = Symbol('CONNECTIONS');
const ORM_OPTIONS = Symbol('ORM_OPTIONS');

/**
 * The ORM's configuration, which names the entities of all features: the application hands it down.
 *
 * @param onPoolCreated gets the pool, which the event stream shares
 */
type OrmOptions = (
  databaseUrl: string | undefined,
  poolMax: number,
  onPoolCreated: (pool: Pool) => void,
  preparedStatements: PreparedStatements,
) => Options;

interface Connections {
  orm: MikroORM;
  pool: Pool;
}

/** Makes the pool without a connection: a process starts, and says that it is not ready, without a database. */
function createConnections(config: Config, ormOptions: OrmOptions): Connections {
  let pool: Pool | undefined;
  const orm = new MikroORM(
    ormOptions(
      config.DATABASE_URL,
      config.DATABASE_POOL_MAX,
      (created) => {
        pool = created;
      },
      config.DATABASE_PREPARED_STATEMENTS,
    ),
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
    PoolMetrics,
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
  ) {}

  onModuleInit(): void {
    this.shutdown.register(ShutdownPhase.Disconnect, () => this.database.close());
    this.readiness.register('database', () => checkServer(this.database));
    this.readiness.register('migrations', async () => {
      const { pending } = await this.schema.look();
      if (pending.length > 0) throw new MissingPartError(`not run yet: ${pending.join(', ')}`);
    });
  }
}
