import type { ApiDocument } from './document.js';
import { byId } from './elements.js';
import { leaveStreamsSoon } from './leave-streams.js';
import { nameParts } from './names.js';
import { setValue } from './values.js';

/** What this page uses of Swagger UI. */
interface SwaggerUi {
  preauthorizeApiKey(scheme: string, value: string): void;
  authActions: { logout(schemes: string[]): void };
  layoutActions: { show(key: string[], isShown: boolean): void };
  layoutSelectors: { isShown(key: string[], isShownAtFirst: boolean): boolean };
}
interface PageResponse {
  ok: boolean;
  url: string;
  headers: Record<string, string>;
  obj?: { id?: string; token?: string; session?: { id: string } };
}
declare const SwaggerUIBundle: ((options: object) => SwaggerUi) & { presets: { apis: object } };

interface System {
  React: { createElement: (type: unknown, properties: object | null, ...children: unknown[]) => unknown };
}

/**
 * What Swagger UI says of the document as a whole stands above, as the guide: its own layout without that, and without a
 * second `main`. And it scrolls as this page does.
 */
const onlyTheOperations = ({ React: { createElement } }: System) => ({
  components: {
    OnlyTheOperations: ({
      getComponent,
    }: {
      getComponent: (name: string, isContainer?: boolean) => unknown;
    }) =>
      createElement(
        'div',
        { className: 'swagger-ui' },
        createElement(getComponent('SvgAssets'), null),
        createElement(
          'div',
          { className: 'schemes' },
          createElement(getComponent('AuthorizeBtnContainer', true), null),
        ),
        createElement(getComponent('operations', true), null),
        createElement(getComponent('Models', true), null),
      ),
  },
  // A link within the button that opens the operation is none that a keyboard could reach: the contents have one.
  wrapComponents: {
    DeepLink:
      () =>
      ({ text }: { text: unknown }) =>
        createElement('span', null, text),
  },
  statePlugins: {
    layout: {
      wrapActions: {
        scrollToElement: () => (shown: Element | null) => {
          shown?.scrollIntoView();
          return { type: 'shown' };
        },
        // Any other is a section of the guide, of which it would make a tag that there is not.
        parseDeepLinkHash: (open: (hash: string) => unknown) => (hash: string) =>
          hash.startsWith('#/') ? open(hash) : { type: 'left' },
      },
    },
  },
});

/** The operations, to be read and tried out: Swagger UI without what this page says itself. */
export class Operations {
  private isOwner = false;

  private constructor(private readonly ui: SwaggerUi) {}

  static async show(document: ApiDocument, address: string): Promise<Operations> {
    await swaggerUi();
    const { description: _, ...info } = document.info;
    return new Promise((resolve) => {
      const ui: SwaggerUi = SwaggerUIBundle({
        spec: { ...document, info, servers: [{ url: address }] },
        dom_id: '#swagger',
        presets: [SwaggerUIBundle.presets.apis],
        plugins: [onlyTheOperations],
        layout: 'OnlyTheOperations',
        deepLinking: true,
        defaultModelsExpandDepth: 0,
        validatorUrl: null, // or the page would ask a server of its maker
        tryItOutEnabled: true,
        requestInterceptor: leaveStreamsSoon,
        responseInterceptor: (response: PageResponse) => learnFrom(response, ui),
        onComplete: () => {
          nameParts(byId('swagger'));
          resolve(new Operations(ui));
        },
      });
    });
  }

  authorizeOwner(token: string | null): void {
    if (token !== null) this.ui.preauthorizeApiKey('owner', token);
    else if (this.isOwner) this.ui.authActions.logout(['owner']);
    this.isOwner = token !== null;
  }

  /** Opens the tag or operation of a link, and leads there. What Swagger UI opens becomes a step of the history by itself. */
  open(hash: string): void {
    const [tag = '', id] = hash.slice('#/'.length).split('/').map(decodeURIComponent);
    this.show(['operations-tag', tag], true);
    if (id) this.show(['operations', tag, id], false);
    requestAnimationFrame(() => {
      const name = tag.replaceAll(' ', '_');
      const shown = document.getElementById(id ? `operations-${name}-${id}` : `operations-tag-${name}`);
      shown?.scrollIntoView();
      shown?.querySelector('button')?.focus({ preventScroll: true });
    });
  }

  private show(key: string[], isShownAtFirst: boolean): void {
    if (!this.ui.layoutSelectors.isShown(key, isShownAtFirst)) this.ui.layoutActions.show(key, true);
  }
}

/** Its script is loaded beside this one. */
async function swaggerUi(): Promise<void> {
  if ('SwaggerUIBundle' in window) return;
  await new Promise((resolve, reject) => {
    const script = document.getElementById('swagger-ui')!;
    script.addEventListener('load', resolve);
    script.addEventListener('error', () => reject(new Error('Swagger UI could not be loaded')));
  });
}

/** A part of it would otherwise take the scrolling of the whole page, and what the way back restores, to itself. */
Object.assign(window, { noZensmooth: true });

/** What an answer gives is put into the code, and who a session was opened for is who is calling from then on. */
function learnFrom(response: PageResponse, ui: SwaggerUi): PageResponse {
  const { ok, url, headers, obj } = response;
  if (!ok || typeof obj !== 'object') return response;
  const { pathname } = new URL(url, location.href);
  const cursor = headers['x-event-cursor'];
  if (cursor) setValue('cursor', cursor);
  if (pathname.endsWith('/v1/chatbots') && obj.id) setValue('chatbot id', obj.id);
  if (/\/v1\/chatbots\/[^/]+\/sessions$/.test(pathname) && obj.session && obj.token) {
    setValue('session id', obj.session.id);
    setValue('guest token', obj.token);
    ui.preauthorizeApiKey('guest', obj.token);
  }
  return response;
}
