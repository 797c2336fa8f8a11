/** What the page tells the one that it is embedded in: nothing that is secret, since any page may be that one. */
export type ToParent =
  | { type: 'ready' }
  | { type: 'close' }
  | { type: 'identityRequired' }
  | { type: 'unread'; count: number }
  | { type: 'session'; id: string }
  | { type: 'message'; id: string; sender: string };

export interface ParentCalls {
  opened: () => void;
  identify: (token: string) => void;
  logout: () => void;
  reset: () => void;
}

/** The page around this one, where it is embedded with `?embed=1`; else nobody. */
export class Parent {
  private isOpen = false;
  private unread = 0;

  constructor(readonly isEmbedded: boolean) {
    document.addEventListener('visibilitychange', () => this.clearIfSeen());
  }

  listen(calls: ParentCalls): void {
    if (!this.isEmbedded) return;
    addEventListener('message', ({ source, data }: MessageEvent<unknown>) => {
      if (source !== window.parent || source === window) return;
      const { type, token } = (data ?? {}) as { type?: unknown; token?: unknown };
      if (type === 'opened') {
        this.isOpen = true;
        this.clearIfSeen();
        calls.opened();
      } else if (type === 'closed') this.isOpen = false;
      else if (type === 'identify' && typeof token === 'string') calls.identify(token);
      else if (type === 'logout') calls.logout();
      else if (type === 'reset') calls.reset();
    });
  }

  post(message: ToParent): void {
    if (this.isEmbedded) window.parent.postMessage({ assistly: 1, ...message }, '*');
  }

  /** An answer is complete. */
  answered(): void {
    if (!this.isEmbedded || (this.isOpen && document.visibilityState === 'visible')) return;
    this.unread += 1;
    this.post({ type: 'unread', count: this.unread });
  }

  private clearIfSeen(): void {
    if (this.unread === 0 || !this.isOpen || document.visibilityState !== 'visible') return;
    this.unread = 0;
    this.post({ type: 'unread', count: 0 });
  }
}
