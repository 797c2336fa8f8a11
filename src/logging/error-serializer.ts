import { LlmError } from '../llm/llm-client.js';
import { withoutCredentials } from '../runtime/credentials.js';

/**
 * What the log shows of an error: enough to find the cause, and nothing that people wrote. The ORM's errors quote
 * the statement with its values, and PostgreSQL's the value that did not fit; of both only the code, and the name
 * of the constraint, is kept. A provider's words are kept, without our keys; those that quote a conversation never come
 * here.
 */

/** How deep a chain of causes is followed. */
const MAX_DEPTH = 4;
const SQLSTATE = /^[0-9A-Z]{5}$/;

interface LoggedError {
  type: string;
  message: string;
  code?: string;
  constraint?: string;
  /** Of a failed call of a model: what the provider answered, in codes. */
  answer?: object;
  stack?: string;
  cause?: LoggedError;
}

/** @param secrets values that must not show up in a message */
export function createErrorSerializer(
  secrets: readonly (string | undefined)[],
): (error: unknown) => LoggedError {
  const known = secrets.filter((secret): secret is string => secret !== undefined && secret.length >= 4);
  const clean = (text: string): string => {
    let cleaned = withoutCredentials(text);
    for (const secret of known) cleaned = cleaned.replaceAll(secret, '[redacted]');
    return cleaned.slice(0, 2_000);
  };

  const serialize = (error: unknown, depth: number): LoggedError => {
    if (typeof error !== 'object' || error === null)
      return { type: typeof error, message: clean(String(error)) };
    const { name, message, stack, code, constraint, cause } = error as Record<string, unknown>;
    const isFromDatabase = typeof code === 'string' && SQLSTATE.test(code) && !/^E[A-Z]{4}$/.test(code);
    const frames =
      typeof stack === 'string'
        ? stack
            .split('\n')
            .filter((line) => /^\s+at /.test(line))
            .join('\n')
        : undefined;
    return {
      type: error.constructor?.name ?? String(name),
      message: isFromDatabase ? 'the database refused the statement' : clean(String(message)),
      ...(typeof code === 'string' && { code }),
      ...(typeof constraint === 'string' && { constraint }),
      ...(error instanceof LlmError && error.options.answer && { answer: error.options.answer }),
      ...(frames && { stack: frames }),
      ...(cause !== undefined &&
        cause !== null &&
        depth < MAX_DEPTH && { cause: serialize(cause, depth + 1) }),
    };
  };
  return (error) => serialize(unwrapped(error), 1);
}

/** pino-http hands over its own rendering of an error, whose message holds those of all its causes. */
function unwrapped(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'raw' in error ? error.raw : error;
}
