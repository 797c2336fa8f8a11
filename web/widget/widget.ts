import css from './widget.css';

/**
 * What `<script src="https://host/widget.js" data-chatbot="…" async>` runs in somebody else's page: a button, and at its
 * first use a frame with the guest page, which does all the rest. It needs nothing of the host page's policy but
 * `script-src` and `frame-src`, so it takes its styles from constructed sheets, draws instead of loading, and asks the
 * network nothing. It is held to 2 kB (test/unit/widget.test.ts).
 */

/** What is called before the widget has loaded, and what `push` takes at any time: a method's name and its arguments. */
type Call = [name: string, ...args: never[]];

type Listener = (detail: unknown) => void;

/** What the host page's scripts find at `window.Assistly`, and of another chatbot at `Assistly.of(chatbotId)`. */
interface Widget {
  open: () => void;
  close: () => void;
  toggle: () => void;
  /** Says who the guest is: a token that the site's own server has signed. */
  identify: (token: string) => void;
  logout: () => void;
  /** Begins a new conversation. */
  reset: () => void;
  /** Gives back what ends it. */
  on: (event: string, listener: Listener) => () => void;
  destroy: () => void;
  push: (call: Call) => unknown;
  of: Registry;
}

/** The page's widgets by chatbot, which several scripts share: a function that gives one, and has each as a property. */
type Registry = ((chatbotId: string) => Widget | undefined) & Record<string, Widget>;

/** The script's `data-` attributes. */
interface Options {
  chatbot: string;
  position?: string;
  color: string;
  label?: string;
  unread?: string;
  open?: string;
}

/** What goes to the guest page and comes from it. It is a message of ours by `assistly: 1` and its window and origin. */
interface Message {
  assistly?: 1;
  type: string;
  count?: number;
  token?: string;
}

type Page = Window & { Assistly?: Widget | (Call[] & { of?: undefined }) };

/** Where the open widget is the whole screen: as in the style sheet. The page behind it does not scroll. */
const SCROLL_LOCK = '@media(max-width:480px),(max-height:400px){html{overflow:hidden!important}}';

function start({ src, dataset }: HTMLScriptElement): void {
  const {
    chatbot: chatbotId,
    position,
    color,
    label = 'Chat',
    unread: unreadWord = 'unread',
    open,
  } = dataset as unknown as Options;
  const page: Page = window;
  const before = page.Assistly;
  const of: Registry = before?.of ?? (((id: string) => of[id]) as Registry);
  if (of[chatbotId]) return;

  const { href, origin } = new URL(`c/${chatbotId}?embed=1`, src);
  const root = document.documentElement;
  const listeners = new Set<[event: string, listener: Listener]>();
  const ending = new AbortController();

  function make<Name extends keyof HTMLElementTagNameMap>(
    parent: ParentNode,
    name: Name,
    properties?: Partial<HTMLElementTagNameMap[Name]>,
  ): HTMLElementTagNameMap[Name] {
    return parent.appendChild(Object.assign(document.createElement(name), properties));
  }
  const sheet = (text: string): CSSStyleSheet => {
    const made = new CSSStyleSheet();
    made.replaceSync(text);
    return made;
  };

  const host = make(root, 'div', { role: 'region', ariaLabel: label });
  const shadow = host.attachShadow({ mode: 'open' });
  shadow.adoptedStyleSheets = [sheet(css)];
  if (position) host.dir = position === 'left' ? 'rtl' : 'ltr'; // all sides in the sheet are logical
  const launcher = make(shadow, 'button');
  launcher.style.color = color; // where it is one
  const told = make(shadow, 'b', { role: 'status' });
  const panel = make(shadow, 'section', { role: 'dialog', ariaLabel: label });
  const lock = sheet(SCROLL_LOCK);

  let frame: HTMLIFrameElement | undefined;
  let isOpen = false;
  /** Whether the guest page listens. */
  let isReady = false;
  let unread = 0;
  /** What the guest page is told again whenever it has loaded: who the guest is. */
  let introduceAgain: (() => void) | undefined;
  let isResetDue = false;
  let opener: HTMLElement;
  /** Whether focus goes into the guest page once that is there: what came sooner could stay the frame's, and never be the page's. */
  let isFocusDue: boolean | undefined;

  const draw = (): void => {
    const news = unread ? `${unread} ${unreadWord}` : '';
    host.className = isOpen ? (isReady ? 'o r' : 'o') : '';
    launcher.ariaExpanded = isOpen as unknown as string;
    launcher.ariaLabel = `${label} ${news}`;
    if (told.textContent !== news) told.textContent = news; // which is read out
    const others = document.adoptedStyleSheets.filter((one) => one !== lock);
    document.adoptedStyleSheets = isOpen ? [...others, lock] : others;
  };
  const emit = (event: string, detail?: unknown): void =>
    listeners.forEach(([heard, listener]) => heard === event && listener(detail));
  const tell = (type: string, token?: string): void => {
    if (isReady) frame!.contentWindow!.postMessage({ assistly: 1, type, token }, origin);
  };
  const tellState = (): void => {
    // Where who opened it has not moved on.
    if (isReady && isFocusDue && document.activeElement === opener) frame!.focus();
    tell(isOpen ? 'opened' : 'closed');
  };
  const introduce = (token: string): void =>
    (introduceAgain = () => tell(token ? 'identify' : 'logout', token))();

  const show = (wanted: boolean, takesFocus?: boolean): void => {
    if (wanted === isOpen) return;
    const hadFocus = shadow.activeElement === frame;
    isOpen = wanted;
    frame ??= make(panel, 'iframe', { title: label, allow: 'clipboard-write', src: href });
    draw();
    if (isOpen) {
      opener = document.activeElement as HTMLElement;
      isFocusDue = takesFocus;
    }
    if (hadFocus) {
      launcher.focus();
      opener.focus(); // to which nothing happens where it is the body, gone, or the launcher's host
    }
    tellState();
    emit(isOpen ? 'open' : 'close');
  };
  // Focus moves where a person has just done something, and never by itself.
  const showNow = (wanted: boolean): void => show(wanted, navigator.userActivation?.isActive);

  const observer = new MutationObserver(() => host.isConnected || root.append(host));

  const widget: Widget = {
    open: () => showNow(true),
    close: () => showNow(false),
    toggle: () => showNow(!isOpen),
    identify: introduce,
    logout: () => introduce(''),
    reset() {
      isResetDue = !isReady;
      tell('reset');
    },
    on(event, listener) {
      const entry: [string, Listener] = [event, listener];
      listeners.add(entry);
      return () => listeners.delete(entry);
    },
    destroy() {
      isOpen = isReady = false;
      draw();
      ending.abort();
      observer.disconnect();
      host.remove();
      delete of[chatbotId];
      [page.Assistly] = Object.values(of);
    },
    push: ([name, ...args]) =>
      (widget as unknown as Record<string, (...args: unknown[]) => unknown>)[name]!(...args),
    of,
  };

  host.addEventListener('click', widget.toggle);
  host.addEventListener('keydown', ({ key }) => key === 'Escape' && show(false));
  addEventListener(
    'message',
    ({ source, origin: from, data }: MessageEvent<Message>) => {
      if (source === frame?.contentWindow && from === origin && data?.assistly) {
        unread = data.count ?? unread;
        if (data.type === 'ready') {
          isReady = true;
          introduceAgain?.();
          if (isResetDue) widget.reset();
          tellState();
        }
        draw();
        if (data.type === 'close') show(false);
        else emit(data.type, data);
      }
    },
    ending,
  );
  // Above the keyboard. Where a person zooms in, it stays as it was.
  const view = visualViewport!;
  for (const change of ['resize', 'scroll']) {
    view.addEventListener(
      change,
      () => {
        if (view.scale < 1.1) panel.style.cssText = `--t:${view.offsetTop}px;--h:${view.height}px`;
      },
      ending,
    );
  }

  draw();
  observer.observe(root, { childList: true }); // of which some routers and frameworks take away what they did not make
  of[chatbotId] = widget;
  if (!before?.of) {
    page.Assistly = widget;
    before?.map(widget.push);
  }
  if (open !== undefined) show(true);
}

start(document.currentScript as HTMLScriptElement);
