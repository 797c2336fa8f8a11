import { Inject, Injectable } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { Express, NextFunction, Request, Response } from 'express';
import { toAppearanceDto } from '../chatbots/appearance.js';
import { greet } from '../chatbots/greeting.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { isDatabaseUnavailable } from '../database/database-errors.js';
import { Database } from '../database/database.js';
import { isId } from '../http/id-param.js';
import { isOwnOrigin } from '../http/origin.guard.js';
import { accentStyle } from './accent.js';
import { acceptedLanguage } from './accepted-language.js';
import { type BuiltPage, readBuiltPage, sendAsset } from './built-page.js';
import { contentPolicy, mayEmbed, PLAIN_POLICY } from './content-policy.js';
import { fillTemplate } from './html.js';

/** What `/` leads to, on a person's own machine. */
export interface StartLinks {
  /** The demo's page; null where there is none. */
  chat: string | null;
  docs: string;
  /** Null where nobody may enter. */
  board: string | null;
  api: string;
}

/**
 * The page on which guests talk with a chatbot, `/c/:chatbotId`, as `web/` is built. The api writes into it what is to stand
 * there before any script: title, name, greeting and accent, from one query; all else the page asks the API for. Its
 * policy says which pages may embed it, so that the browser sees to it. Where the browser tells which page that is, one that
 * may not gets a sentence for its visitors, instead of what browsers show when they refuse.
 */
@Injectable()
export class GuestPage {
  private built: Promise<BuiltPage> | undefined;
  private startLinks: StartLinks | null = null;

  constructor(
    private readonly database: Database,
    @Inject(CONFIG) private readonly config: Pick<Config, 'PUBLIC_URL'>,
  ) {}

  mountOn(app: Pick<NestExpressApplication, 'getHttpAdapter'>): void {
    const routes: Express = app.getHttpAdapter().getInstance();
    const route =
      (serve: (request: Request, response: Response, next: NextFunction) => Promise<void>) =>
      (request: Request, response: Response, next: NextFunction): void => {
        serve(request, response, next).catch(next);
      };
    routes.get(
      '/c/assets/:name',
      route((...exchange) => this.serveAsset(...exchange)),
    );
    routes.get(
      '/c/:chatbotId',
      route((...exchange) => this.servePage(...exchange)),
    );
    routes.get(
      '/',
      route((...exchange) => this.serveStart(...exchange)),
    );
  }

  /** From now on `/` shows where to begin. */
  showStart(links: StartLinks): void {
    this.startLinks = links;
  }

  private read(): Promise<BuiltPage> {
    return (this.built ??= readBuiltPage());
  }

  private async serveAsset(request: Request, response: Response, next: NextFunction): Promise<void> {
    const asset = (await this.read()).assets.get(String(request.params['name']));
    if (!asset) return next();
    sendAsset(request, response, asset);
  }

  private async servePage(request: Request, response: Response, next: NextFunction): Promise<void> {
    if (request.path.endsWith('/')) return next(); // what the page refers to stands beside it
    const built = await this.read();
    const language = acceptedLanguage(request.headers['accept-language'], built.languages);
    response.setHeader('Cache-Control', 'no-cache');
    response.setHeader('Vary', 'Accept-Language');
    response.removeHeader('X-Frame-Options'); // which knows no lists
    response.type('html');
    const say = (status: number, notice: string): void => {
      response.status(status).setHeader('Content-Security-Policy', PLAIN_POLICY);
      response.send(built.templates.get(`${notice}.${language}`));
    };
    let chatbot;
    try {
      chatbot = await this.find(String(request.params['chatbotId']));
    } catch (error) {
      if (!isDatabaseUnavailable(error)) throw error;
      response.setHeader('Retry-After', '1');
      return say(503, 'unavailable');
    }
    if (!chatbot) return say(404, 'notFound');
    const allowedOrigins = chatbot.allowed_origins;
    const embedder = embedderOf(request);
    if (embedder !== null && !isOwnOrigin(request, embedder, this.config)) {
      if (!mayEmbed(allowedOrigins, embedder)) return say(403, 'notAllowed');
    }
    const { avatarUrl, color, title } = toAppearanceDto(chatbot.appearance);
    const style = accentStyle(color);
    response.setHeader('Content-Security-Policy', contentPolicy({ avatarUrl, allowedOrigins, style }));
    response.send(
      fillTemplate(
        built.templates.get(`index.${language}`)!,
        { title: title ?? chatbot.name, greeting: greet(chatbot.greeting ?? '', null).trim() },
        { accent: style },
      ),
    );
  }

  private async find(id: string) {
    if (!isId(id)) return undefined;
    return this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select(['name', 'greeting', 'appearance', 'allowed_origins'])
        .where('id', '=', id)
        .executeTakeFirst(),
    );
  }

  private async serveStart(_request: Request, response: Response, next: NextFunction): Promise<void> {
    if (!this.startLinks) return next();
    const { chat, docs, board, api } = this.startLinks;
    const name = `start${chat === null ? '' : '-demo'}${board === null ? '' : '-board'}`;
    const { templates } = await this.read();
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('Content-Security-Policy', PLAIN_POLICY.replace('ancestors *', "ancestors 'none'"));
    response
      .type('html')
      .send(fillTemplate(templates.get(name)!, { chat: chat ?? '', docs, board: board ?? '', api }));
  }
}

const FRAMES: ReadonlySet<string> = new Set(['iframe', 'frame', 'embed', 'object']);

/** The origin of the page that embeds this one, as far as the browser tells it. It decides nothing that is secret. */
function embedderOf({ headers, query }: Request): string | null {
  const destination = headers['sec-fetch-dest']; // not sent to what is neither HTTPS nor on this machine
  const isFramed = destination === undefined ? query['embed'] === '1' : FRAMES.has(destination);
  const page = isFramed ? URL.parse(headers.referer ?? '') : null;
  return page !== null && /^https?:$/.test(page.protocol) ? page.origin : null;
}
