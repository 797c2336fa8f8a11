import { setImmediate as nextTurn } from 'node:timers/promises';
import {
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  type OnModuleDestroy,
  SetMetadata,
  type Type,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { Request, Response } from 'express';
import { of } from 'rxjs';
import { AppError } from '../runtime/app-error.js';
import { MAX_VALUES } from './json-document.js';
import { JsonReader } from './json-reader.js';
import { readBody } from './read-body.js';
import { mostBytesOf } from './text.js';

/** The largest body of a route that says nothing else, in bytes. */
const MAX_BODY_BYTES = 128 * 1024;

/** What a body may hold. */
interface BodyBounds {
  bytes: number;
  /** JSON values, those inside of others included. */
  values: number;
}

const USUAL_BOUNDS: BodyBounds = { bytes: MAX_BODY_BYTES, values: MAX_VALUES };

const BODY_BOUNDS = Symbol('BODY_BOUNDS');

/** A route whose body has bounds of its own. */
export const Bounded = (bounds: BodyBounds): MethodDecorator => SetMetadata(BODY_BOUNDS, bounds);

/** A route whose body may be as large as the limits of its fields together need. */
export const LargeBody = (dto: Type): MethodDecorator =>
  Bounded({ ...USUAL_BOUNDS, bytes: Math.max(MAX_BODY_BYTES, mostBytesOf(dto)) });

const RAW_BODY = Symbol('RAW_BODY');

/** A route that also needs the bytes of its body, as `request.rawBody`: those that a signature is of. */
export const KeepsRawBody = (): MethodDecorator => SetMetadata(RAW_BODY, true);

declare module 'express-serve-static-core' {
  interface Request {
    rawBody?: Buffer;
  }
}

/**
 * Reads the JSON body. An interceptor rather than middleware, because a missing or bad credential must be
 * reported before anything about the body, and guards run before interceptors.
 */
@Injectable()
export class JsonBodyInterceptor implements NestInterceptor, OnModuleDestroy {
  private readonly reader = new JsonReader();

  constructor(private readonly reflector: Reflector) {}

  onModuleDestroy(): Promise<void> {
    return this.reader.close();
  }

  async intercept(context: ExecutionContext, next: CallHandler): Promise<ReturnType<CallHandler['handle']>> {
    const request = context.switchToHttp().getRequest<Request>();
    const response = context.switchToHttp().getResponse<Response>();
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      const bounds = this.reflector.get<BodyBounds | undefined>(BODY_BOUNDS, context.getHandler());
      const keepsRaw = this.reflector.get<boolean | undefined>(RAW_BODY, context.getHandler()) === true;
      request.body = await this.read(request, response, bounds ?? USUAL_BOUNDS, keepsRaw);
      // A client that has gone while others were served: what it sent is read in one turn, that it has gone in the next.
      await nextTurn();
      await nextTurn();
    }
    return request.socket.destroyed ? of(undefined) : next.handle();
  }

  private async read(
    request: Request,
    response: Response,
    { bytes: maxBytes, values: maxValues }: BodyBounds,
    keepsRaw: boolean,
  ): Promise<object> {
    const isEmpty =
      request.headers['transfer-encoding'] === undefined &&
      Number(request.headers['content-length'] ?? 0) === 0;
    if (isEmpty) return {}; // whatever is required is then reported as missing
    if (!request.is('application/json') || !isUtf8Type(request.headers['content-type'] ?? '')) {
      throw new AppError('unsupported_media_type', 'Send the body as application/json in UTF-8.');
    }
    // A hundred bytes may unpack to a hundred thousand.
    if (!/^(identity)?$/i.test(request.headers['content-encoding'] ?? '')) {
      throw new AppError('unsupported_media_type', 'Send the body as it is, without Content-Encoding.');
    }
    const bytes = await readBody(request, response, maxBytes);
    if (keepsRaw) request.rawBody = Buffer.from(bytes); // a copy, since a reader may be given the bytes for good
    const document = await this.reader.read(bytes, maxValues);
    switch (document.status) {
      case 'object':
        return document.body;
      case 'malformed':
        throw new AppError('malformed_json', 'The body is not valid JSON in UTF-8.', {
          cause: new Error(document.reason),
        });
      case 'refused':
        throw new AppError('invalid_request', 'The body is not an object, or holds what no field may hold.', {
          errors: document.errors,
        });
    }
  }
}

/** Whether a `Content-Type` names no charset but UTF-8. */
const isUtf8Type = (type: string): boolean => {
  const [, charset] = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(type) ?? [];
  return charset === undefined || /^utf-?8$/i.test(charset);
};
