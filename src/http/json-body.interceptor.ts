import { isUtf8 } from 'node:buffer';
import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { json, type Request, type Response } from 'express';
import { AppError, type FieldError } from '../runtime/app-error.js';

/** The largest request body, in bytes. */
const MAX_BODY_BYTES = 128 * 1024;

/** No body of this API is deeper than 3; what is far deeper is made to exhaust the stack of a validator. */
const MAX_DEPTH = 16;

/**
 * Reads the JSON body. An interceptor rather than middleware, because a missing or bad credential must be
 * reported before anything about the body, and guards run before interceptors.
 */
@Injectable()
export class JsonBodyInterceptor implements NestInterceptor {
  private readonly parse = json({
    limit: MAX_BODY_BYTES,
    strict: false, // a string or a number is JSON too; that it is no object is refused below
    verify: (_request, _response, buffer) => {
      // A plain Error, since the parser writes a status into what is thrown here.
      if (!isUtf8(buffer)) throw new Error('the body is not UTF-8');
    },
  });

  async intercept(context: ExecutionContext, next: CallHandler): Promise<ReturnType<CallHandler['handle']>> {
    const request = context.switchToHttp().getRequest<Request>();
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      await this.read(request, context.switchToHttp().getResponse<Response>());
    }
    return next.handle();
  }

  private async read(request: Request, response: Response): Promise<void> {
    const isEmpty =
      request.headers['transfer-encoding'] === undefined &&
      Number(request.headers['content-length'] ?? 0) === 0;
    if (isEmpty) {
      request.body = {}; // whatever is required is then reported as missing
      return;
    }
    if (!request.is('application/json')) {
      throw new AppError('unsupported_media_type', 'Send the body as application/json.');
    }
    await new Promise<void>((resolve, reject) => {
      this.parse(request, response, (error: unknown) => {
        if (error === undefined) resolve();
        else reject(toBodyError(error));
      });
    });
    const body: unknown = request.body;
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
      throw new AppError('invalid_request', 'The body must be a JSON object.', {
        errors: [{ pointer: '', message: 'must be an object' }],
      });
    }
    const errors = unsafeText(body);
    if (errors.length > 0) {
      throw new AppError('invalid_request', 'The body holds what no field may hold.', { errors });
    }
  }
}

function toBodyError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const type = typeof error === 'object' && error !== null && 'type' in error ? error.type : undefined;
  switch (type) {
    case 'entity.too.large':
      return new AppError('payload_too_large', `The body may hold at most ${MAX_BODY_BYTES} bytes.`);
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new AppError('unsupported_media_type', 'Send the body as application/json in UTF-8.');
    default:
      return new AppError('malformed_json', 'The body is not valid JSON in UTF-8.', { cause: error });
  }
}

/**
 * Finds what PostgreSQL cannot store (NUL), what would be changed silently (lone surrogates), and what is made
 * to confuse a validator (the names that every object has, such as `__proto__` and `constructor`, which it takes for
 * known fields; endless nesting). Iterative, since its input may be hostile.
 */
function unsafeText(body: object): FieldError[] {
  const errors: FieldError[] = [];
  const rest: { value: unknown; pointer: string; depth: number }[] = [{ value: body, pointer: '', depth: 0 }];
  for (let item = rest.pop(); item && errors.length < 20; item = rest.pop()) {
    const { value, pointer, depth } = item;
    if (typeof value === 'string') {
      if (value.includes('\0')) errors.push({ pointer, message: 'must not hold a NUL character' });
      else if (!value.isWellFormed()) errors.push({ pointer, message: 'must not hold a lone surrogate' });
    } else if (typeof value === 'object' && value !== null) {
      if (depth >= MAX_DEPTH) {
        errors.push({ pointer, message: 'is nested too deeply' });
        continue;
      }
      for (const [key, inner] of Object.entries(value)) {
        const at = `${pointer}/${key.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1')}`;
        if (key in Object.prototype) errors.push({ pointer: at, message: 'is not a field of this request' });
        else rest.push({ value: inner, pointer: at, depth: depth + 1 });
      }
    }
  }
  return errors;
}
