import { Injectable, Logger, type OnModuleDestroy } from '@nestjs/common';

/**
 * The order in which a process stops. Nest's own order follows imports, and its HTTP server waits for open
 * streams before it closes anything; so what has to happen in order is registered here, and done in
 * `onModuleDestroy`, which comes before all of that.
 */
export const ShutdownPhase = {
  /** Tell the load balancer; take no new jobs. */
  StopTaking: 0,
  /** End event streams and long polls; the clients come back, elsewhere. */
  EndStreams: 1,
  /** Finish what is running, within a bound, and hand the rest back. */
  Drain: 2,
  /** Close the queue and the event stream, which the phases before needed. */
  Close: 3,
  /** Close the database, which all others needed. */
  Disconnect: 4,
} as const;
export type ShutdownPhase = (typeof ShutdownPhase)[keyof typeof ShutdownPhase];

@Injectable()
export class Shutdown implements OnModuleDestroy {
  private readonly logger = new Logger(Shutdown.name);
  private readonly steps: { phase: ShutdownPhase; run: () => Promise<void> | void }[] = [];
  private done: Promise<void> | null = null;
  private readonly controller = new AbortController();

  /** Aborted when the process begins to stop. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  register(phase: ShutdownPhase, run: () => Promise<void> | void): void {
    this.steps.push({ phase, run });
  }

  onModuleDestroy(): Promise<void> {
    this.done ??= this.run();
    return this.done;
  }

  private async run(): Promise<void> {
    this.controller.abort();
    for (const phase of Object.values(ShutdownPhase)) {
      await Promise.all(
        this.steps
          .filter((step) => step.phase === phase)
          .map(async (step) => {
            try {
              await step.run();
            } catch (error) {
              this.logger.error({ err: error }, 'a step of the shutdown failed');
            }
          }),
      );
    }
  }
}
