import { Inject, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { sql } from 'kysely';
import { CONFIG } from '../config/config.module.js';
import { type Config, Role } from '../config/env.js';
import { Database, runOn } from '../database/database.js';
import { queueConnections } from '../queue/queue-backend.js';
import { QueueGate } from '../queue/queue-gate.js';

/** Replies at once that one connection can serve: each renews its lease and stores its text every few seconds. */
const REPLIES_OF_A_CONNECTION = 50;
/** The event stream's, on PostgreSQL alone. */
const LISTENING_CONNECTIONS = 1;

/** Warns at the start of sizes that do not fit each other: of the pools, the worker's concurrency and the server. */
@Injectable()
export class ConnectionBudget implements OnApplicationBootstrap {
  private readonly logger = new Logger(ConnectionBudget.name);

  constructor(
    @Inject(CONFIG) private readonly config: Config,
    private readonly database: Database,
    private readonly gate: QueueGate,
  ) {}

  onApplicationBootstrap(): void {
    this.checkConcurrency();
    void this.checkServer().catch(() => undefined); // a database that cannot be asked is told by readiness
  }

  private checkConcurrency(): void {
    const { role, REPLY_CONCURRENCY, DATABASE_POOL_MAX } = this.config;
    const most = DATABASE_POOL_MAX * REPLIES_OF_A_CONNECTION;
    if (role === Role.Api || REPLY_CONCURRENCY <= most) return;
    this.logger.warn(
      { event: 'database.pool_small', concurrency: REPLY_CONCURRENCY, poolMax: DATABASE_POOL_MAX },
      `REPLY_CONCURRENCY is ${REPLY_CONCURRENCY}, and the ${DATABASE_POOL_MAX} connections of DATABASE_POOL_MAX serve about ${most} replies at once: more of them wait for each other`,
    );
  }

  private async checkServer(): Promise<void> {
    if (!(await this.gate.whenOpen())) return;
    const [server] = await this.database.readOnce((db) =>
      runOn(
        db,
        sql<{ most: number }>`select current_setting('max_connections')::int
          - current_setting('superuser_reserved_connections')::int as most`,
      ),
    );
    const { config } = this;
    const own =
      config.DATABASE_POOL_MAX +
      (config.REDIS_URL === undefined ? LISTENING_CONNECTIONS + queueConnections(config) : 0);
    if (server === undefined || own <= server.most) return;
    this.logger.warn(
      { event: 'database.connections_scarce', connections: own, serverMax: server.most },
      `this process alone may open ${own} connections to PostgreSQL, which allows ${server.most}: lower DATABASE_POOL_MAX, or raise max_connections`,
    );
  }
}
