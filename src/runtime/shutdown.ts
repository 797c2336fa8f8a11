import { Injectable, Logger, type OnApplicationShutdown, type OnModuleDestroy } from '@nestjs/common';

/**
 * The order in which a process stops. Nest's own order follows imports; so what has to happen in order is
 * registered here. Between the phases Nest closes the HTTP server: after those that end what would keep it open
 * (`onModuleDestroy`), and before those that close what the last requests still need (`onApplicationShutdown`).
 */
export const ShutdownPhase = {
  /** Report not ready to the load balancer; take no new jobs. */
  StopTaking: 0,
  /** End event streams and long polls; their clients reconnect to another process. */
  EndStreams: 1,
  /** Finish what is running, within a bound, and hand the rest back. */
  Drain: 2,
  /** Close the queue and the event stream, which the phases before, and the last requests, needed. */
  Close: 3,
  /** Close the database, which all others needed, and send the last spans. */
  Disconnect: 4,
} as const;
export type ShutdownPhase = (typeof ShutdownPhase)[keyof typeof ShutdownPhase];

@Injectable()
export class Shutdown implements OnModuleDestroy, OnApplicationShutdown {
  private readonly logger = new Logger(Shutdown.name);
  private readonly steps: { phase: ShutdownPhase; run: () => Promise<void> | void }[] = [];
  private ended: Promise<void> | null = null;
  private closed: Promise<void> | null = null;
  private readonly controller = new AbortController();

  /** Aborted when the process begins to stop. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  register(phase: ShutdownPhase, run: () => Promise<void> | void): void {
    this.steps.push({ phase, run });
  }

  onModuleDestroy(): Promise<void> {
    this.controller.abort();
    this.ended ??= this.run(ShutdownPhase.StopTaking, ShutdownPhase.EndStreams, ShutdownPhase.Drain);
    return this.ended;
  }

  onApplicationShutdown(): Promise<void> {
    this.closed ??= this.run(ShutdownPhase.Close, ShutdownPhase.Disconnect);
    return this.closed;
  }

  private async run(...phases: ShutdownPhase[]): Promise<void> {
    for (const phase of phases) {
      await Promise.all(
        this.steps
          .filter((step) => step.phase === phase)
          .map(async (step) => {
            try {
              await step.run();
            } catch (error) {
              this.logger.error(
                { event: 'process.shutdown_step_failed', phase, err: error },
                'a step of the shutdown failed: the shutdown continues without it',
              );
            }
          }),
      );
    }
  }
}
