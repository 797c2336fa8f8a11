import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import type { BeforeHookResult, HookContext } from '@bull-board/api/dist/types.js';
import { ExpressAdapter } from '@bull-board/express';
import type { Queue } from 'bullmq';
import type { Express } from 'express';
import type { ReplyQueue } from '../conversations/reply-queue.js';

/** The states that a job of ours can be in, in the order of a job's life. */
const JOB_STATES = ['waiting', 'active', 'delayed', 'completed', 'failed'] as const;

/**
 * Hides what Bull Board shows all the same: the buttons whose actions are refused, of which it can hide all or
 * none, and states that no job of ours has. By the names of its parts, so an update may bring some of them back;
 * the actions stay refused.
 */
const HIDING_STYLE = `
  [class^='queueActions-'],
  main [aria-haspopup='menu'],
  [class^='jobActions-'] li:not(:has(.lucide-refresh-cw, .lucide-corner-up-left)),
  li[class^='waitingChildren-'],
  li[class^='prioritized-'],
  li[class^='paused-'] { display: none !important; }`;

/** Bull Board's page without what is refused, and without the fonts that it would get from another site. */
class PageAdapter extends ExpressAdapter {
  override setEntryRoute(entry: Parameters<ExpressAdapter['setEntryRoute']>[0]): this {
    this.app.get(entry.route, (_request, response, next) => {
      const { name, params } = entry.handler({ basePath: this.basePath, uiConfig: this.uiConfig });
      this.app.render(name, params, (error, html) => {
        if (error) next(error);
        else {
          response.send(
            html
              .replace(/<link [^>]*fonts\.googleapis\.com[^>]*>/, '')
              .replace('</head>', `<style>${HIDING_STYLE}</style></head>`),
          );
        }
      });
    });
    return this;
  }
}

class RepliesAdapter extends BullMQAdapter {
  /** A reply that is completed is not generated again. */
  override readonly allowCompletedRetries = false;

  override getStatuses(): ReturnType<BullMQAdapter['getStatuses']> {
    return ['latest', ...JOB_STATES];
  }

  override getJobStatuses(): ReturnType<BullMQAdapter['getJobStatuses']> {
    return [...JOB_STATES];
  }
}

/**
 * Bull Board over the replies' queue, without what nobody may do.
 *
 * @param path where it is served
 * @param before asked before each of its calls
 */
export function createBoard(
  queue: ReplyQueue,
  path: string,
  before: (call: HookContext) => Promise<BeforeHookResult>,
): Express {
  const serverAdapter = new PageAdapter();
  serverAdapter.setBasePath(path);
  const board = createBullBoard({
    queues: [],
    serverAdapter,
    options: {
      uiConfig: { boardTitle: 'Assistly', hideRedisDetails: true, hideDocsLink: true },
      handlerHooks: { before },
    },
  });
  // Its types know BullMQ on Redis only; it asks nothing of what is behind a queue.
  queue.onOpen((open) => board.addQueue(new RepliesAdapter(open as Queue)));
  const router = serverAdapter.getRouter() as Express;
  router.disable('x-powered-by');
  return router;
}
