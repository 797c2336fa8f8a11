import { Controller, Get, Head, Headers, HttpCode, Post, Query, Res } from '@nestjs/common';
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
import { ApiEventStream } from './session-event.dto.js';
import { EventTokenDto } from './event-token.dto.js';
import { type Frame, SESSION_DELETED, SessionEventsService } from './session-events.service.js';
import { type OpenStream, SessionStreams } from './session-streams.js';

/** How long a browser waits before it comes back, in milliseconds. */
const RECONNECT_AFTER_MS = 2_000;

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
    private readonly streams: SessionStreams,
    private readonly shutdown: Shutdown,
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
    // A blank header is what a browser has before its first event: as good as none.
    const cursor = lastEventId || (Array.isArray(after) ? after.join() : after) || null;
    await this.streams.open(caller, id, origin.address, response, (stream) => this.send(id, cursor, stream));
  }

  /** Sends what happens after the cursor, until the stream ends, or until the session is gone. */
  private async send(id: string, cursor: string | null, stream: OpenStream): Promise<void> {
    const { out, signal } = stream;
    const frames = this.events.open(id, cursor, signal);
    const first = await frames.next();
    if (first.done || out.signal.aborted) return;
    await out.begin(`retry: ${RECONNECT_AFTER_MS}\n\n${toText(first.value)}`);
    const onDeleted = async (): Promise<void> => {
      await out.send(toText(SESSION_DELETED));
      out.end();
    };
    try {
      await this.streams.whileAlive(id, stream, onDeleted, async () => {
        for await (const frame of frames) {
          await out.send(toText(frame));
          stream.sent(frame.appendedAt);
        }
      });
    } finally {
      // Spread out, so that the clients of a process that stops do not all come back at once.
      const pauseMs = Math.round(RECONNECT_AFTER_MS * (0.25 + Math.random()));
      out.end(this.shutdown.signal.aborted ? `retry: ${pauseMs}\n\n` : undefined);
    }
  }
}

/** JSON holds no line break of its own, so a frame's data is one line. */
function toText({ id, event, data }: Frame): string {
  return `id: ${id}\n${event === undefined ? '' : `event: ${event}\ndata: ${data ?? '{}'}\n`}\n`;
}
