import { Body, Controller, Get, Head, HttpCode, Post, Query, Res, UseFilters } from '@nestjs/common';
import {
  ApiBody,
  ApiExcludeEndpoint,
  ApiNoContentResponse,
  ApiOkResponse,
  ApiOperation,
  ApiParam,
  ApiQuery,
  ApiTags,
} from '@nestjs/swagger';
import type { Response } from 'express';
import { Access } from '../auth/access.js';
import { Caller, type Principal } from '../auth/principal.js';
import { isFinal, type ReplyDto } from '../conversations/reply.dto.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { Bounded } from '../http/json-body.interceptor.js';
import { PlainErrorsFilter } from '../http/plain-errors.filter.js';
import { ApiPlainProblems, ApiProblems, BODY_PROBLEMS } from '../http/problem-api.js';
import { Origin, type RequestOrigin } from '../http/request-origin.js';
import { markIds } from '../logging/request-ids.js';
import { AppError } from '../runtime/app-error.js';
import { SessionEventsService } from '../session-events/session-events.service.js';
import { type OpenStream, SessionStreams } from '../session-events/session-streams.js';
import { ApiChatStream } from './chat-stream-api.js';
import { CHAT_REQUEST, readChatRequest } from './chat-request.js';
import { ChatStopDto } from './chat-stop.dto.js';
import { ChatsService } from './chats.service.js';
import { type Chunk, ReplyChunks } from './reply-chunks.js';
import { UiMessageDto } from './ui-message.dto.js';
import { UiMessagesService } from './ui-messages.service.js';

/** Clients post their whole history each time. */
const BODY_BOUNDS = { bytes: 1024 * 1024, values: 5_000 };

const MAX_LIMIT = 200;
const DEFAULT_LIMIT = 100;

const DONE = 'data: [DONE]\n\n';

@ApiTags('AI SDK')
@Controller('v1/sessions/:id/chat')
export class ChatsController {
  constructor(
    private readonly chats: ChatsService,
    private readonly uiMessages: UiMessagesService,
    private readonly events: SessionEventsService,
    private readonly streams: SessionStreams,
  ) {}

  @Post()
  @HttpCode(200)
  @Access('owner', 'guest')
  @Bounded(BODY_BOUNDS)
  @UseFilters(PlainErrorsFilter)
  @ApiOperation({
    summary: 'Send a message, or ask for an answer anew, and follow the answer',
    description:
      'What `useChat` posts, unchanged: `api` is this address, the session token goes into its headers. Of the body the last user’s message is read, and fields that are not listed are ignored; up to 1 MiB and 5,000 JSON values. The message’s `id` is its `clientMessageId`: sent again, it is answered with the stream of the same reply. `regenerate-message` streams the reply that is being made, or makes a new one instead of the latest answer.',
    operationId: 'chat',
  })
  @ApiIdParam('session')
  @ApiBody({ schema: CHAT_REQUEST })
  @ApiChatStream()
  @ApiPlainProblems(
    'unauthorized',
    'chatbot_disabled',
    'not_found',
    'message_not_editable',
    'reply_not_retryable',
    'session_full',
    'reply_full',
    'idempotency_key_reused',
    ...BODY_PROBLEMS,
  )
  async chat(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Body() body: Record<string, unknown>,
    @Origin() origin: RequestOrigin,
    @Res() response: Response,
  ): Promise<void> {
    const request = readChatRequest(body);
    await this.streams.open(caller, id, origin.address, response, async (stream) => {
      const reply = await this.chats.replyTo(caller, id, request, origin);
      markIds(response, { sessionId: id, replyId: reply.id });
      await this.tell(reply, request.canReset, stream);
    });
  }

  @Get()
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'The messages of a chat',
    description:
      'The newest, oldest first, as the AI SDK’s `UIMessage[]`: the `messages` that `useChat` begins with. Without those that a retry has superseded, or is about to.',
    operationId: 'listChatMessages',
  })
  @ApiIdParam('session')
  @ApiQuery({
    name: 'limit',
    required: false,
    schema: { type: 'integer', minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT },
  })
  @ApiOkResponse({ type: [UiMessageDto], description: 'The messages.' })
  @ApiProblems('invalid_request', 'unauthorized', 'not_found')
  list(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Query('limit') limit: unknown,
  ): Promise<UiMessageDto[]> {
    return this.uiMessages.list(caller, id, toLimit(limit));
  }

  /** Before the GET, whose route would take a HEAD as well, and keep it waiting for a stream without a body. */
  @Head(':chatId/stream')
  @ApiExcludeEndpoint()
  @Access('owner', 'guest')
  async head(@Caller() caller: Principal, @IdParam() id: string, @Res() response: Response): Promise<void> {
    const current = await this.chats.current(caller, id);
    response.status(current ? 200 : 204).end();
  }

  @Get(':chatId/stream')
  @Access('owner', 'guest')
  @UseFilters(PlainErrorsFilter)
  @ApiOperation({
    summary: 'Go on with the answer that is being made',
    description:
      'For `useChat` with `resume: true`: the session’s first unfinished reply from its start, or one that ended in the last ten seconds. `chatId` is the client’s, and means nothing here.',
    operationId: 'resumeChat',
  })
  @ApiIdParam('session')
  @ApiParam({ name: 'chatId', schema: { type: 'string' } })
  @ApiQuery({
    name: 'protocol',
    required: false,
    description: '`7` from clients that know `reset-step`.',
    schema: { type: 'string' },
  })
  @ApiChatStream()
  @ApiNoContentResponse({ description: 'No answer is being made.' })
  @ApiPlainProblems('invalid_request', 'unauthorized', 'not_found', 'rate_limited')
  async resume(
    @Caller() caller: Principal,
    @IdParam() id: string,
    @Query('protocol') protocol: unknown,
    @Origin() origin: RequestOrigin,
    @Res() response: Response,
  ): Promise<void> {
    const current = await this.chats.current(caller, id);
    if (!current) {
      response.status(204).end();
      return;
    }
    await this.streams.open(caller, id, origin.address, response, (stream) =>
      this.tell(current, protocol === '7', stream),
    );
  }

  @Post('stop')
  @HttpCode(204)
  @Access('owner', 'guest')
  @ApiOperation({
    summary: 'Stop the answer that is being made',
    description:
      'The call of the model is aborted; whoever follows sees the answer end. `useChat`’s own `stop()` only closes its connection, as a lost tab does, and stops nothing. Where no answer is being made it changes nothing.',
    operationId: 'stopChat',
  })
  @ApiIdParam('session')
  @ApiBody({ type: ChatStopDto, required: false })
  @ApiNoContentResponse({ description: 'It is stopped.' })
  @ApiProblems('unauthorized', 'not_found', ...BODY_PROBLEMS)
  stop(@Caller() caller: Principal, @IdParam() id: string, @Body() body: ChatStopDto): Promise<void> {
    return this.chats.stop(caller, id, body.messageId ?? null);
  }

  /** Tells a reply from its start to its end. A stream that has to end before is broken off. */
  private async tell(reply: ReplyDto, canReset: boolean, stream: OpenStream): Promise<void> {
    const { out, signal } = stream;
    const chunks = new ReplyChunks(reply, canReset);
    // The names of the SDK, which tells its clients what comes, and under which name it may be gone on with.
    const headers = { 'X-Vercel-AI-UI-Message-Stream': 'v1', 'X-Resumable-Stream-Id': reply.id };
    if (isFinal(reply.status)) {
      const answer = await this.chats.answerOf(reply.id);
      await out.begin(toText([...chunks.begin(), ...chunks.end(reply, answer)]), headers);
      out.end(DONE);
      return;
    }
    await out.begin(toText(chunks.begin()), headers);
    const onDeleted = async (): Promise<void> => {
      await out.send(toText(chunks.deleted()));
      out.end(DONE);
    };
    try {
      await this.streams.whileAlive(reply.chatSessionId, stream, onDeleted, async () => {
        for await (const frame of this.events.open(reply.chatSessionId, 'snapshot', signal)) {
          const text = toText(chunks.next(frame));
          if (text !== '') await out.send(text);
          stream.sent(frame.appendedAt);
          if (chunks.isDone) break;
        }
      });
    } finally {
      if (chunks.isDone) out.end(DONE);
      else out.cut();
    }
  }
}

const toText = (chunks: readonly Chunk[]): string =>
  chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join('');

function toLimit(limit: unknown): number {
  if (limit === undefined) return DEFAULT_LIMIT;
  const count = typeof limit === 'string' && /^\d{1,3}$/.test(limit) ? Number(limit) : 0;
  if (count >= 1 && count <= MAX_LIMIT) return count;
  throw new AppError('invalid_request', `The limit must be 1 to ${MAX_LIMIT}.`, {
    errors: [{ pointer: 'limit', message: `must be a whole number from 1 to ${MAX_LIMIT}` }],
  });
}
