import { applyDecorators, Injectable, Param, type PipeTransform } from '@nestjs/common';
import { ApiParam } from '@nestjs/swagger';
import { notFound } from '../runtime/app-error.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export const isId = (value: unknown): value is string => typeof value === 'string' && UUID.test(value);

/** A malformed id is the id of nothing: 404, like any other that is not there. */
@Injectable()
class IdPipe implements PipeTransform<string, string> {
  transform(value: string): string {
    if (!isId(value)) throw notFound();
    return value.toLowerCase();
  }
}

/** A path parameter that is an id. */
export const IdParam = (name = 'id'): ParameterDecorator => Param(name, IdPipe);

/** Documents it; on the method, since OpenAPI wants it there. */
export const ApiIdParam = (thing: string, name = 'id') =>
  applyDecorators(
    ApiParam({ name, description: `The id of the ${thing}.`, schema: { type: 'string', format: 'uuid' } }),
  );
