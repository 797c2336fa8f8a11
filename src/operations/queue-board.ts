import type { BeforeHookResult, HookContext } from '@bull-board/api/dist/types.js';
import { Injectable, Logger } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Job } from 'bullmq';
import type { Express, NextFunction, Request, RequestHandler, Response } from 'express';
import helmet from 'helmet';
import { readReplyJob } from '../conversations/reply-jobs.js';
import { ReplyQueue } from '../conversations/reply-queue.js';
import { ReplyDispatching } from '../conversations/reply-store/dispatching.js';
import { BLOCKED_SECONDS, OperatorDoor, Visitor } from './operator-door.js';

export const BULL_BOARD_PATH = '/admin/queues';

/** What the board may change. All else is for looking at. */
const RETRY_ROUTES = new Set([
  '/api/queues/:queueName/:jobId/retry',
  '/api/queues/:queueName/:jobId/promote',
]);

/** Lets operators pass. */
function basicAuth(door: OperatorDoor): RequestHandler {
  const answer = (visitor: Visitor, response: Response, next: NextFunction): void => {
    switch (visitor) {
      case Visitor.Operator:
        next();
        break;
      case Visitor.Stranger:
        response
          .status(401)
          .setHeader('WWW-Authenticate', 'Basic realm="Assistly queues", charset="UTF-8"')
          .type('text/plain')
          .send('Operators only.');
        break;
      case Visitor.Blocked:
        response
          .status(429)
          .setHeader('Retry-After', String(BLOCKED_SECONDS))
          .type('text/plain')
          .send('Too many wrong passwords. Wait a minute.');
    }
  };
  return (request: Request, response: Response, next: NextFunction) =>
    void door.judge(request).then((visitor) => answer(visitor, response, next), next);
}

/**
 * A browser sends the operator's credentials along with whatever any page makes it ask for, so what changes
 * something must come from the board itself. Where a browser does not send `Sec-Fetch-Site`, its `Origin` is compared.
 */
function sameOrigin(request: Request, response: Response, next: NextFunction): void {
  const { origin, host, 'sec-fetch-site': site } = request.headers;
  const isSafe = request.method === 'GET' || request.method === 'HEAD';
  const isOwn = site === undefined ? origin === undefined || hostOf(origin) === host : site === 'same-origin';
  if (isSafe || isOwn) next();
  else response.status(403).type('text/plain').send('Not from another page.');
}

const hostOf = (origin: string): string | null => (URL.canParse(origin) ? new URL(origin).host : null);

/** Nothing from elsewhere, nothing for elsewhere, and nothing kept. */
const securityHeaders: RequestHandler[] = [
  helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"], // as Bull Board writes its pages
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        baseUri: ["'self'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    xFrameOptions: { action: 'deny' },
  }),
  (_request, response, next) => {
    response.setHeader('Cache-Control', 'no-store');
    next();
  },
];

/**
 * Bull Board, cut down to what an operator needs: to see the jobs, and to enqueue a reply again. It is middleware,
 * which Nest's guards do not cover, so it has a door of its own. Whatever is not on the list of what it may do is
 * refused, and not shown either: the rows are the truth, so that adding, changing or removing jobs could do no good.
 */
@Injectable()
export class QueueBoard {
  private readonly logger = new Logger(QueueBoard.name);
  private board: Promise<Express> | null = null;

  constructor(
    private readonly door: OperatorDoor,
    private readonly queue: ReplyQueue,
    private readonly dispatching: ReplyDispatching,
  ) {}

  /** Puts the board, behind its door, at its path; without an operator there is nothing. */
  mountOn(app: Pick<NestExpressApplication, 'use'>): void {
    if (!this.door.exists) return;
    app.use(
      BULL_BOARD_PATH,
      ...securityHeaders,
      basicAuth(this.door),
      sameOrigin,
      (request: Request, response: Response, next: NextFunction) =>
        void this.load().then((board) => board(request, response, next), next),
    );
  }

  /** When an operator first looks, since most processes are never looked at: it is 2.5 MB of an api's heap. */
  private load(): Promise<Express> {
    this.board ??= import('./bull-board.js').then(({ createBoard }) =>
      createBoard(this.queue, BULL_BOARD_PATH, (call) => this.beforeCall(call)),
    );
    return this.board;
  }

  private async beforeCall({ method, route, request }: HookContext): Promise<BeforeHookResult> {
    if (method === 'get') return { allow: true };
    if (!RETRY_ROUTES.has(route)) {
      return { allow: false, message: 'Only single replies can be enqueued again.' };
    }
    const { queueName, jobId } = request.params as { queueName: string; jobId: string };
    const job = (await request.queues.get(queueName)?.getJob(jobId)) as Job<unknown> | undefined;
    if (!job) return { allow: true }; // which Bull Board answers with 404
    if (await job.isCompleted()) return { allow: false, message: 'This job has done its work.' };
    const known = readReplyJob(job);
    if (known?.name === 'generate') await this.dispatching.endPause(known.data.replyId);
    this.logger.log({ event: 'job.retried_by_operator', jobId }, 'an operator asked to enqueue a job again');
    return { allow: true };
  }
}
