import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { BULLMQ_MAJOR_VERSION } from 'bullmq';
import { SchemaCheck } from '../database/schema-check.js';

/** How often a closed gate looks again. */
const RETRY_INTERVAL_MS = 500;

/** Every so many looks one logs what the gate waits for. */
const LOOKS_PER_LINE = 20;

/**
 * Holds the making of queues and workers back until the schema is one for this version: a worker that is newer
 * than its schema would take jobs only to fail them, and one whose BullMQ is too old for its tables would poll in a
 * busy loop and get no jobs. And BullMQ on PostgreSQL remembers a failed first connection for ever: a queue
 * made too early would never work again.
 */
@Injectable()
export class QueueGate implements OnModuleDestroy {
  private readonly logger = new Logger(QueueGate.name);
  private isStopped = false;
  private opened: Promise<boolean> | null = null;
  private obstacle: string | null = null;

  constructor(private readonly schema: SchemaCheck) {}

  /** Resolves with true when queues may be made, or with false when the process stops before. */
  whenOpen(): Promise<boolean> {
    this.opened ??= this.waitForSchema();
    return this.opened;
  }

  /** What keeps it closed, for an operator; null: nothing, or it has not looked yet. */
  get closedBy(): string | null {
    return this.obstacle;
  }

  onModuleDestroy(): void {
    this.isStopped = true;
  }

  private async waitForSchema(): Promise<boolean> {
    for (let looks = 0; !this.isStopped; looks++) {
      const isLogged = looks % LOOKS_PER_LINE === 0;
      try {
        this.obstacle = await this.findObstacle();
        if (this.obstacle === null) return true;
        if (isLogged) {
          this.logger.warn(
            { event: 'queue.opening_delayed' },
            `the queue is not open, so this process is not ready: ${this.obstacle}`,
          );
        }
      } catch (error) {
        if (isLogged) {
          this.logger.warn(
            { event: 'queue.schema_check_failed', err: error },
            'the queue is not open, since the database did not say which migrations it has: it is asked again',
          );
        }
      }
      await sleep(RETRY_INTERVAL_MS, undefined, { ref: false });
    }
    return false;
  }

  private async findObstacle(): Promise<string | null> {
    const { pending, neededBullmq } = await this.schema.look();
    if (pending.length > 0) {
      return `migrations have not run yet, which "npm run db:migrate" does: ${pending.join(', ')}`;
    }
    return neededBullmq > BULLMQ_MAJOR_VERSION
      ? `the tables need BullMQ ${neededBullmq} or newer, and this version of the product has BullMQ ${BULLMQ_MAJOR_VERSION}`
      : null;
  }
}
