import type { Claim } from '../conversations/reply-store/transitions.js';
import { EventType, type StreamEvent } from '../events/event-stream.js';
import type { AttemptServices } from './attempt-services.js';
import { StopReason } from './stop-reason.js';

/**
 * Keeps the lease of a claim while its attempt runs, and stops the attempt as soon as the claim is lost or may be.
 *
 * Three things find that out. A heartbeat renews the lease and learns whether the claim still holds. A watch on this
 * process's monotonic clock stops the attempt before an unrenewed lease runs out, since another worker may claim the
 * reply from then on. A subscription to the session's events stops it at once when somebody else ends the reply.
 */
export class LeaseKeeper {
  private renewedAt = 0;
  private timers: NodeJS.Timeout[] = [];
  private unsubscribe = (): void => undefined;
  private isChecking = false;

  constructor(
    private readonly services: Pick<AttemptServices, 'claims' | 'stream' | 'timings'>,
    private readonly claim: Claim,
    private readonly stop: AbortController,
  ) {}

  /**
   * Resolves when the subscription has begun, so that no end after it is missed. An end before it is noticed when the
   * stream refuses the start of the attempt.
   */
  async start(): Promise<void> {
    const { stream, timings } = this.services;
    this.renewedAt = performance.now();
    this.timers = [
      setInterval(() => this.renew(), timings.heartbeatIntervalMs),
      // Apart from the heartbeats, which may hang.
      setInterval(() => this.watch(), timings.leaseWatchIntervalMs),
    ];
    try {
      this.unsubscribe = await stream.subscribe(this.claim.sessionId, (news) => {
        if (news === null) void this.check();
        else if (news.events.some((event) => this.endsReply(event))) this.stop.abort(StopReason.Lost);
      });
    } catch {
      // The stream is down: the heartbeats alone notice an end.
    }
  }

  /** Stops the heartbeats, the watch and the subscription; the lease stays as it is. */
  end(): void {
    for (const timer of this.timers) clearInterval(timer);
    this.unsubscribe();
  }

  private renew(): void {
    const askedAt = performance.now();
    this.services.claims.heartbeat(this.claim).then(
      (holds) => {
        if (holds) this.renewedAt = askedAt;
        else this.stop.abort(StopReason.Lost);
      },
      () => undefined, // the watch stops the attempt in time
    );
  }

  private watch(): void {
    const { leaseMs, leaseMarginMs } = this.services.timings;
    if (performance.now() - this.renewedAt > leaseMs - leaseMarginMs) this.stop.abort(StopReason.Lost);
  }

  /** Asks the row, since the stream notified without its events; one question at a time. */
  private async check(): Promise<void> {
    if (this.isChecking) return;
    this.isChecking = true;
    try {
      if (!(await this.services.claims.heartbeat(this.claim))) this.stop.abort(StopReason.Lost);
    } catch {
      // The next heartbeat asks again.
    } finally {
      this.isChecking = false;
    }
  }

  /** Whether an event of the session means that nobody waits for this reply any more. */
  private endsReply({ type, data }: StreamEvent): boolean {
    switch (type) {
      case EventType.SessionDeleted:
        return true;
      case EventType.ReplyCompleted:
      case EventType.ReplyCancelled:
      case EventType.ReplyFailed:
        return (JSON.parse(data) as { reply: { id: string } }).reply.id === this.claim.replyId;
      default:
        return false;
    }
  }
}
