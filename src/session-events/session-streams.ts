import { Inject, Injectable } from '@nestjs/common';
import type { Response } from 'express';
import type { Principal } from '../auth/principal.js';
import { SseResponse } from '../http/sse-response.js';
import { Shutdown } from '../runtime/shutdown.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { EventStreamMetrics } from './event-stream-metrics.js';
import { SessionEventsService } from './session-events.service.js';

/** A stream that a client has open. */
export interface OpenStream {
  out: SseResponse;
  /** Aborted when the client has gone, the stream is old enough, or the process stops. */
  signal: AbortSignal;
  /** Notes what was sent, for measuring. See {@link StreamEvent.appendedAt}. */
  sent(appendedAt: number | undefined): void;
}

type StreamTimings = Pick<Timings, 'sseKeepAliveIntervalMs' | 'sseMaxAgeMs' | 'sseMaxStallMs'>;

/** What every open stream of a session needs, whatever is told on it: a place, comments, and an end. */
@Injectable()
export class SessionStreams {
  constructor(
    private readonly events: SessionEventsService,
    private readonly shutdown: Shutdown,
    private readonly metrics: EventStreamMetrics,
    @Inject(TIMINGS) private readonly timings: StreamTimings,
  ) {}

  /**
   * Takes a place among those who follow the session, for as long as the work goes on.
   *
   * @throws AppError not_found, rate_limited, before the work begins; and whatever the work throws
   */
  async open(
    caller: Principal,
    sessionId: string,
    address: string,
    response: Response,
    work: (stream: OpenStream) => Promise<void>,
  ): Promise<void> {
    const leave = await this.events.enter(caller, sessionId, address);
    const out = new SseResponse(response, this.timings.sseMaxStallMs);
    const aged = new AbortController();
    // Not a timeout of AbortSignal's own: that one keeps, for all its time, whatever has listened to it.
    const age = setTimeout(() => aged.abort(), this.timings.sseMaxAgeMs);
    const signal = AbortSignal.any([out.signal, this.shutdown.signal, aged.signal]);
    const sent = (appendedAt: number | undefined): void => {
      if (appendedAt !== undefined) this.metrics.sent(appendedAt);
    };
    try {
      await work({ out, signal, sent });
    } finally {
      leave();
      clearTimeout(age);
    }
  }

  /**
   * Sends comments while the work goes on. The rows decide: whatever became of the event, a deleted session is not followed
   * on.
   *
   * @param onDeleted what to do then
   */
  async whileAlive(
    sessionId: string,
    { out }: OpenStream,
    onDeleted: () => Promise<void>,
    work: () => Promise<void>,
  ): Promise<void> {
    const keepAlive = setInterval(() => {
      out.keepAlive();
      void this.events
        .exists(sessionId)
        .then((exists) => (exists ? undefined : onDeleted()))
        .catch(() => undefined); // the next one asks again
    }, this.timings.sseKeepAliveIntervalMs);
    this.metrics.opened();
    try {
      await work();
    } finally {
      this.metrics.closed();
      clearInterval(keepAlive);
    }
  }
}
