import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import type { Pool } from 'pg';
import type { Gauge } from 'prom-client';
import { Metrics } from '../metrics/metrics.js';
import { POSTGRES_POOL } from './postgres-pool.js';

/** How the pool of this process is used. */
@Injectable()
export class PoolMetrics implements OnModuleInit {
  private readonly connections: Gauge<'state'>;
  private readonly max: Gauge;
  private readonly waiting: Gauge;

  constructor(
    @Inject(POSTGRES_POOL) private readonly pool: Pool,
    private readonly metrics: Metrics,
  ) {
    this.connections = metrics.gauge({
      name: 'assistly_database_pool_connections',
      help: 'Connections of this process’ pool to PostgreSQL: busy or idle.',
      labelNames: ['state'],
    });
    this.max = metrics.gauge({
      name: 'assistly_database_pool_max_connections',
      help: 'Most connections that the pool may open.',
    });
    this.waiting = metrics.gauge({
      name: 'assistly_database_pool_waiting',
      help: 'Callers that wait for a connection of the pool.',
    });
  }

  onModuleInit(): void {
    const { pool } = this;
    this.max.set(pool.options.max);
    this.metrics.beforeScrape(() => {
      this.connections.set({ state: 'busy' }, pool.totalCount - pool.idleCount);
      this.connections.set({ state: 'idle' }, pool.idleCount);
      this.waiting.set(pool.waitingCount);
    });
  }
}
