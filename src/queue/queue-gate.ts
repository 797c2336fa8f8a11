import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';
import { BULLMQ_MAJOR_VERSION } from 'bullmq';
import { SchemaCheck } from '../database/schema-check.js';

/** How often a closed gate looks again. */
const RETRY_INTERVAL_MS = 500;

/** How often it is told again what a closed gate waits for. */
const LOOKS_PER_LINE = 20;

/**
 * Holds the making of queues and workers back until the schema is one for this version: a worker that is newer
 * than its schema would take jobs only to fail them, and one whose BullMQ is too old for its tables would ask for
 * jobs in vain, as fast as it can. And BullMQ on PostgreSQL remembers a failed first connection for ever: a queue
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
      const isTold = looks % LOOKS_PER_LINE === 0;
      try {
        this.obstacle = await this.findObstacle();
        if (this.obstacle === null) return true;
        if (isTold) this.logger.warn(`the queue is not open: ${this.obstacle}`);
      } catch (error) {
        if (isTold) this.logger.warn({ err: error }, 'the queue waits for the database');
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
