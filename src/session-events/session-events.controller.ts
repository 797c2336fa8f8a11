import { Controller, Get, Head, Headers, HttpCode, Inject, Post, Query, Res } from '@nestjs/common';
import {
  ApiCreatedResponse,
  ApiExcludeEndpoint,
  ApiHeader,
  ApiOperation,
  ApiQuery,
  type ApiQueryOptions,
  ApiTags,
} from '@nestjs/swagger';
import type { Response } from 'express';
import { Access } from '../auth/access.js';
import { Caller, type Principal } from '../auth/principal.js';
import { Origin, type RequestOrigin } from '../http/request-origin.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { Shutdown } from '../runtime/shutdown.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { EventStreamMetrics } from './event-stream-metrics.js';
import { EventStreamResponse, RECONNECT_AFTER_MS } from './event-stream-response.js';
import { ApiEventStream } from './session-event.dto.js';
import { EventTokenDto } from './event-token.dto.js';
import { SESSION_DELETED, SessionEventsService } from './session-events.service.js';

const AFTER: ApiQueryOptions = {
  name: 'after',
  required: false,
  description:
    'The cursor to continue after: an `X-Event-Cursor`, or the `id` of an event. Or `snapshot`, to begin with a `session.snapshot`.',
  schema: { type: 'string' },
};

@ApiTags('Events')
@Controller('v1/sessions/:id/events')
export class SessionEventsController {
  constructor(
    private readonly events: SessionEventsService,
    private readonly shutdown: Shutdown,
    private readonly metrics: EventStreamMetrics,
    @Inject(TIMINGS)
    private readonly timings: Pick<Timings, 'sseKeepAliveIntervalMs' | 'sseMaxAgeMs' | 'sseMaxStallMs'>,
  ) {}

  @Post('token')
  @HttpCode(201)
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'Get a token for following the session’s events',
    description:
      'For a native EventSource, which cannot send headers. Good for reading this session’s events only, for sixty minutes, reconnects included.',
    operationId: 'createEventToken',
  })
  @ApiIdParam('session')
  @ApiCreatedResponse({ type: EventTokenDto, description: 'The token.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  createToken(@Caller() caller: Principal, @IdParam() id: string): Promise<EventTokenDto> {
    return this.events.createToken(caller, id);
  }

  /** Before the GET, whose route would take a HEAD as well, and keep it waiting for a stream without a body. */
  @Head()
  @ApiExcludeEndpoint()
  @ApiQuery(AFTER)
  @Access('owner', 'guest', 'watcher')
  async head(@Caller() caller: Principal, @IdParam() id: string, @Res() response: Response): Promise<void> {
    await this.events.authorize(caller, id);
    response.type('text/event-stream').end();
  }

  @Get()
  @Access('owner', 'guest', 'watcher')
  @ApiOperation({
    summary: 'Follow the session’s events',
    description:
      'Server-sent events. Each has an `id`, which is a cursor: sent back as `Last-Event-ID`, or in `after`, the stream continues right after it, whichever process answers. Without one it begins with what happens next; with `after=snapshot`, with the conversation as it is, as one `session.snapshot`. A cursor that is too old, unknown or of another session gets one `session.snapshot` first.\n\nExecute, on this page, leaves the stream when a reply has ended, or after ten seconds, and shows what came until then; `curl -N` shows it as it comes.',
    operationId: 'followSession',
  })
  @ApiIdParam('session')
  @ApiHeader({
    name: 'Last-Event-ID',
    required: false,
    description: 'The cursor to continue after, as browsers send it when they come back; wins over `after`.',
    schema: { type: 'string' },
  })
  @ApiQuery(AFTER)
  @ApiEventStream()
  @ApiProblems('invalid_request', 'unauthorized', 'not_found', 'rate_limited')
  async follow(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Query('after') after: string | string[] | undefined,
    @Origin() origin: RequestOrigin,
    @Res() response: Response,
  ): Promise<void> {
    const leave = await this.events.enter(caller, id, origin.address);
    const out = new EventStreamResponse(response, this.timings.sseMaxStallMs);
    // A blank header is what a browser has before its first event: as good as none.
    const cursor = lastEventId || (Array.isArray(after) ? after.join() : after) || null;
    const aged = new AbortController();
    // Not a timeout of AbortSignal's own: that one keeps, for all its time, whatever has listened to it.
    const age = setTimeout(() => aged.abort(), this.timings.sseMaxAgeMs);
    try {
      await this.send(id, cursor, out, AbortSignal.any([out.signal, this.shutdown.signal, aged.signal]));
    } finally {
      leave();
      clearTimeout(age);
    }
  }

  /** Sends what happens after the cursor, until `signal`, or until the session is gone. */
  private async send(
    id: string,
    cursor: string | null,
    out: EventStreamResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const frames = this.events.open(id, cursor, signal);
    const first = await frames.next();
    if (first.done || out.signal.aborted) return;
    await out.begin(first.value);
    const keepAlive = setInterval(() => {
      out.keepAlive();
      // The rows decide: whatever became of the event, a deleted session is not followed on.
      void this.events
        .exists(id)
        .then(async (exists) => {
          if (exists) return;
          await out.send(SESSION_DELETED);
          out.end();
        })
        .catch(() => undefined); // the next one asks again
    }, this.timings.sseKeepAliveIntervalMs);
    this.metrics.opened();
    try {
      for await (const frame of frames) {
        await out.send(frame);
        if (frame.appendedAt !== undefined) this.metrics.sent(frame.appendedAt);
      }
    } finally {
      this.metrics.closed();
      clearInterval(keepAlive);
      // Spread out, so that the clients of a process that stops do not all come back at once.
      out.end(
        this.shutdown.signal.aborted ? Math.round(RECONNECT_AFTER_MS * (0.25 + Math.random())) : undefined,
      );
    }
  }
}
