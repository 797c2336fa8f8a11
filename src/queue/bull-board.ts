import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { join } from 'node:path';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import type { Queue } from 'bullmq';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { Config } from '../config/env.js';
import { ownFile } from '../common/own-file.js';

export const BULL_BOARD_PATH = '/admin/queues';

export interface OperatorCredentials {
  user: string;
  password: string;
}

/**
 * Who may operate the queues. Without a configured password there is none in production, and the board is off;
 * elsewhere one is made once, and kept.
 */
export function operatorCredentials(config: Config): OperatorCredentials | null {
  if (config.BULL_BOARD_USER !== undefined && config.BULL_BOARD_PASSWORD !== undefined) {
    return { user: config.BULL_BOARD_USER, password: config.BULL_BOARD_PASSWORD };
  }
  if (config.isProduction) return null;
  return {
    user: 'operator',
    password: ownFile(join(config.stateDir, 'bull-board-password'), () =>
      randomBytes(18).toString('base64url'),
    ),
  };
}

/** Bull Board is middleware, which Nest's guards do not cover: it has a door of its own. */
function basicAuth(credentials: OperatorCredentials): RequestHandler {
  // Hashed first, so that the comparison tells nothing of the length either.
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const expected = digest(`${credentials.user}:${credentials.password}`);
  return (request: Request, response: Response, next: NextFunction) => {
    const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (timingSafeEqual(digest(Buffer.from(encoded, 'base64').toString()), expected)) {
      next();
      return;
    }
    response
      .status(401)
      .setHeader('WWW-Authenticate', 'Basic realm="Assistly queues", charset="UTF-8"')
      .type('text/plain')
      .send('Operators only.');
  };
}

/** The board behind its door. Queues are shown as soon as there are any. */
export function createQueueBoard(
  credentials: OperatorCredentials,
  onQueue: (listener: (queue: Queue) => void) => void,
): RequestHandler[] {
  const serverAdapter = new ExpressAdapter();
  serverAdapter.setBasePath(BULL_BOARD_PATH);
  const board = createBullBoard({
    queues: [],
    serverAdapter,
    options: { uiConfig: { boardTitle: 'Assistly', hideRedisDetails: true } },
  });
  onQueue((queue) => board.addQueue(new BullMQAdapter(queue)));
  return [basicAuth(credentials), serverAdapter.getRouter() as RequestHandler];
}
