import { type Span, SpanKind } from '@opentelemetry/api';
import { markFailed, tracer } from '../tracing/spans.js';
import { type LlmChunk, LlmError } from './llm-client.js';

/** Whom a call asks, in the words of OpenTelemetry's conventions for generative AI. */
interface ChatTarget {
  /** Who speaks this protocol; which server it is, the address says. */
  provider: 'openai' | 'extractive';
  /** What is asked for. */
  model: string;
  server?: URL;
}

/**
 * Passes an answer on, with a span of the call: who was asked, how long it took to the first text and to the end,
 * tokens, and how it ended. Not what was said.
 */
export async function* tracedChat(
  { provider, model, server }: ChatTarget,
  chunks: AsyncIterable<LlmChunk>,
): AsyncGenerator<LlmChunk, void, undefined> {
  const span = tracer().startSpan(`chat ${model}`, {
    kind: server ? SpanKind.CLIENT : SpanKind.INTERNAL,
    attributes: {
      'gen_ai.operation.name': 'chat',
      'gen_ai.provider.name': provider,
      'gen_ai.request.model': model,
      ...(server && { 'server.address': server.hostname, 'server.port': portOf(server) }),
    },
  });
  let hasBegun = false;
  try {
    for await (const chunk of chunks) {
      if (chunk.type === 'text' && !hasBegun) {
        hasBegun = true;
        span.addEvent('first_token');
      }
      note(span, chunk);
      yield chunk;
    }
  } catch (error) {
    // What is no LlmError is our own wish to stop.
    if (error instanceof LlmError) markFailed(span, error.code);
    else span.addEvent('aborted');
    throw error;
  } finally {
    span.end();
  }
}

function note(span: Span, chunk: LlmChunk): void {
  if (chunk.type === 'finish') {
    span.setAttribute('gen_ai.response.finish_reasons', [chunk.reason]);
    if (chunk.model !== undefined) span.setAttribute('gen_ai.response.model', chunk.model);
  } else if (chunk.type === 'usage') {
    span.setAttributes({
      'gen_ai.usage.input_tokens': chunk.inputTokens,
      'gen_ai.usage.output_tokens': chunk.outputTokens,
    });
  }
}

const portOf = ({ port, protocol }: URL): number =>
  port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port);
