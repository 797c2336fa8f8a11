import { createHash } from 'node:crypto';
import { Controller, HttpCode, Inject, Post, Req } from '@nestjs/common';
import { ApiExcludeEndpoint } from '@nestjs/swagger';
import { verifyWebhook, type WebhookEvent } from '@clerk/backend/webhooks';
import type { Request as HttpRequest } from 'express';
import { Access } from '../auth/access.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { ErasureService } from '../conversations/erasure.service.js';
import { KeepsRawBody } from '../http/json-body.interceptor.js';
import { AppError, notFound } from '../runtime/app-error.js';

const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

/** What Clerk tells, signed with a secret that it shares with the operator: deploy/production.md. */
@Controller('v1/webhooks/clerk')
export class ClerkWebhookController {
  constructor(
    @Inject(CONFIG) private readonly config: Pick<Config, 'CLERK_WEBHOOK_SECRET'>,
    private readonly erasure: ErasureService,
  ) {}

  @Post()
  @HttpCode(204)
  @Access('public')
  @KeepsRawBody()
  @ApiExcludeEndpoint()
  async take(@Req() request: HttpRequest): Promise<void> {
    if (this.config.CLERK_WEBHOOK_SECRET === undefined) throw notFound();
    const body = request.rawBody ?? Buffer.alloc(0);
    const event = await verified(request.headers, body, this.config.CLERK_WEBHOOK_SECRET);
    if (event.type !== 'user.deleted' || typeof event.data.id !== 'string' || event.data.id === '') return;
    await this.erasure.deleteOwner(event.data.id, {
      id: sha256(`clerk webhook ${String(request.headers['svix-id'])}`),
      bodyHash: sha256(body),
    });
  }
}

/** @throws AppError invalid_request where Clerk has not signed it, or more than five minutes ago */
async function verified(
  headers: HttpRequest['headers'],
  body: Buffer,
  signingSecret: string,
): Promise<WebhookEvent> {
  const signed = Object.entries(headers).flatMap(([name, value]): [string, string][] =>
    name.startsWith('svix-') && typeof value === 'string' ? [[name, value]] : [],
  );
  const request = new Request('http://localhost', { method: 'POST', headers: signed, body: body.toString() });
  try {
    return await verifyWebhook(request, { signingSecret });
  } catch (error) {
    throw new AppError('invalid_request', 'The request is not signed by Clerk, or too long ago.', {
      cause: error,
    });
  }
}
