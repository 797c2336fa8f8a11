import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Controller, Get, Query, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiQuery, ApiTags, getSchemaPath } from '@nestjs/swagger';
import type { Response } from 'express';
import { Access } from '../auth/access.js';
import { Owner } from '../auth/principal.js';
import { MessageDto } from '../conversations/message.dto.js';
import { ReplyDto } from '../conversations/reply.dto.js';
import { GuestDto } from '../guests/guest.dto.js';
import { ApiIdParam, IdParam } from '../http/id-param.js';
import { ApiPage, PAGE_PROBLEMS } from '../http/page-api.js';
import { type Page, PageQuery, type PageRequest } from '../http/page.js';
import { ApiProblems } from '../http/problem-api.js';
import { AppError } from '../runtime/app-error.js';
import { ListedGuestDto } from './people.dto.js';
import { PeopleService } from './people.service.js';

const MAX_EMAIL_LENGTH = 255;
/** How long a client may read nothing of an export before it is let go, in milliseconds. */
const MAX_STALL_MS = 30_000;

@ApiTags('Guests')
@Controller('v1')
export class PeopleController {
  constructor(private readonly people: PeopleService) {}

  @Get('chatbots/:id/guests')
  @Access('owner')
  @ApiOperation({ summary: 'List a chatbot’s guests, newest first', operationId: 'listGuests' })
  @ApiIdParam('chatbot')
  @ApiQuery({
    name: 'email',
    required: false,
    description: 'Only those with this e-mail address, whatever its case.',
    schema: { type: 'string', maxLength: MAX_EMAIL_LENGTH },
  })
  @ApiPage(ListedGuestDto, 'A page of guests.')
  @ApiProblems('unauthorized', 'not_found', ...PAGE_PROBLEMS)
  list(
    @Owner() owner: string,
    @IdParam() id: string,
    @Query('email') email: unknown,
    @PageQuery() page: PageRequest,
  ): Promise<Page<ListedGuestDto>> {
    return this.people.list(owner, id, toEmail(email), page);
  }

  @Get('guests/:id/export')
  @Access('owner')
  @ApiOperation({
    summary: 'Export what is stored about a guest',
    description: 'One JSON document, as a file to keep or to hand over.',
    operationId: 'exportGuest',
  })
  @ApiIdParam('guest')
  @ApiOkResponse({
    description: 'The guest, its sessions, and their messages and replies, each list oldest first.',
    headers: {
      'Content-Disposition': {
        description: 'The name of the file.',
        required: true,
        schema: { type: 'string' },
      },
    },
    schema: {
      type: 'object',
      required: ['guest', 'sessions', 'messages', 'replies'],
      properties: {
        guest: { $ref: getSchemaPath(GuestDto) },
        sessions: {
          type: 'array',
          items: {
            type: 'object',
            required: ['id', 'chatbotId', 'createdAt', 'lastMessageAt', 'messageCount'],
            properties: {
              id: { type: 'string', format: 'uuid' },
              chatbotId: { type: 'string', format: 'uuid' },
              createdAt: { type: 'string', format: 'date-time' },
              lastMessageAt: { type: 'string', format: 'date-time', nullable: true },
              messageCount: { type: 'integer', minimum: 0 },
            },
          },
        },
        messages: { type: 'array', items: { $ref: getSchemaPath(MessageDto) } },
        replies: { type: 'array', items: { $ref: getSchemaPath(ReplyDto) } },
      },
    },
  })
  @ApiProblems('invalid_request', 'unauthorized', 'not_found')
  async export(@Owner() owner: string, @IdParam() id: string, @Res() response: Response): Promise<void> {
    const pieces = await this.people.export(owner, id);
    response.type('application/json').attachment(`guest-${id}.json`);
    response.setTimeout(MAX_STALL_MS, () => response.destroy());
    // Cut off where the client goes, or the database: an answer that is not whole does not end as one that is.
    await pipeline(Readable.from(pieces), response).catch(() => response.destroy());
  }
}

function toEmail(text: unknown): string | undefined {
  if (text === undefined || (typeof text === 'string' && text.length <= MAX_EMAIL_LENGTH)) return text;
  throw new AppError('invalid_request', 'email must be one address.', {
    errors: [{ pointer: 'email', message: `must be one address of at most ${MAX_EMAIL_LENGTH} characters` }],
  });
}
