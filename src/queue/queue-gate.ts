import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { sql } from 'kysely';
import { Database } from '../database/database.js';
import type { QueueBackend } from './queue-backend.js';

/** How often a closed gate looks again. */
const RETRY_INTERVAL_MS = 500;

/**
 * Holds the making of queues and workers back until their schema answers. BullMQ on PostgreSQL remembers a
 * failed first connection for ever: a queue made too early would never work again, and say nothing.
 */
@Injectable()
export class QueueGate implements OnModuleDestroy {
  private readonly logger = new Logger(QueueGate.name);
  private isStopped = false;
  private opened: Promise<boolean> | null = null;

  constructor(
    private readonly database: Database,
    private readonly backend: QueueBackend,
  ) {}

  /** Resolves with true when queues may be made, or with false when the process stops before. */
  whenOpen(): Promise<boolean> {
    this.opened ??= this.waitForSchema();
    return this.opened;
  }

  onModuleDestroy(): void {
    this.isStopped = true;
  }

  private async waitForSchema(): Promise<boolean> {
    if (this.backend.kind === 'redis') return true; // it reconnects by itself
    for (let tries = 0; !this.isStopped; tries++) {
      try {
        const [row] = await this.database.run(
          sql<{ version: number }>`select max(version)::int as version from bullmq.migration`,
        );
        if (row && row.version > 0) return true;
      } catch (error) {
        if (tries % 20 === 0) this.logger.warn({ err: error }, 'the queue waits for its schema');
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_INTERVAL_MS).unref());
    }
    return false;
  }
}
