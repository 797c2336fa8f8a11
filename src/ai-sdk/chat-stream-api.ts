import { applyDecorators } from '@nestjs/common';
import { ApiOkResponse, ApiProduces } from '@nestjs/swagger';

const header = (description: string, schema: object) => ({ description, required: true, schema });

/** Documents the AI SDK's stream, whose chunks are the SDK's to define. */
export function ApiChatStream() {
  return applyDecorators(
    ApiProduces('text/event-stream'),
    ApiOkResponse({
      description:
        'A UI message stream v1: `start`, whose `messageId` is the id of the reply; `data-reply` with its `status`, `attempt` and `delay`; `start-step`, `text-start`, `text-delta`, `text-end`, `finish-step`; then `finish`, or `abort` where it was stopped, or `error`; last `[DONE]`. A stream that cannot come to that end is broken off, never ended.',
      headers: {
        'Cache-Control': header('Nothing on the way may keep or change it.', {
          type: 'string',
          enum: ['no-cache, no-transform'],
        }),
        'X-Accel-Buffering': header('Asks nginx not to hold it back.', { type: 'string', enum: ['no'] }),
        'X-Vercel-AI-UI-Message-Stream': header('The version of the protocol.', {
          type: 'string',
          enum: ['v1'],
        }),
        'X-Resumable-Stream-Id': header('The id of the reply.', { type: 'string', format: 'uuid' }),
      },
      schema: { type: 'string' },
    }),
  );
}
