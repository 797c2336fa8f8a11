import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { SchemaCheck } from '../database/schema-check.js';

/** How often a closed gate looks again. */
const RETRY_INTERVAL_MS = 500;

/** How often it is told again what a closed gate waits for. */
const LOOKS_PER_LINE = 20;

/**
 * Holds the making of queues and workers back until the schema is the one of this version: a worker that is newer
 * than its schema would take jobs only to fail them. And BullMQ on PostgreSQL remembers a failed first connection
 * for ever: a queue made too early would never work again, and say nothing.
 */
@Injectable()
export class QueueGate implements OnModuleDestroy {
  private readonly logger = new Logger(QueueGate.name);
  private isStopped = false;
  private opened: Promise<boolean> | null = null;

  constructor(private readonly schema: SchemaCheck) {}

  /** Resolves with true when queues may be made, or with false when the process stops before. */
  whenOpen(): Promise<boolean> {
    this.opened ??= this.waitForSchema();
    return this.opened;
  }

  onModuleDestroy(): void {
    this.isStopped = true;
  }

  private async waitForSchema(): Promise<boolean> {
    for (let looks = 0; !this.isStopped; looks++) {
      const isTold = looks % LOOKS_PER_LINE === 0;
      try {
        const pending = await this.schema.pending();
        if (pending.length === 0) return true;
        if (isTold) {
          this.logger.warn({ pending }, 'the schema is older than this version: run "npm run db:migrate"');
        }
      } catch (error) {
        if (isTold) this.logger.warn({ err: error }, 'the queue waits for the database');
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_INTERVAL_MS).unref());
    }
    return false;
  }
}
