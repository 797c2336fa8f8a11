import { type Chat, type ChatMessage, type ChatSnapshot, createChat, storedAs } from 'assistly-client';
import type { Parent } from './parent.js';

/** What everybody may know of a chatbot, as `GET /v1/chatbots/:id/public` says it. */
export interface Face {
  name: string;
  greeting: string | null;
  isEnabled: boolean;
  requireIdentity: boolean;
  appearance: {
    avatarUrl: string | null;
    title: string | null;
    placeholder: string | null;
    suggestions: string[];
    askFor: 'none' | 'optional' | 'required';
  };
}

export interface Guest {
  name?: string;
  email?: string;
}

/** One of a verified guest's conversations. */
export interface EarlierSession {
  id: string;
  createdAt: string;
  lastMessageAt: string | null;
  messageCount: number;
}

export interface PageState {
  face: Face | null;
  /** The chatbot cannot be reached, or is not there. */
  trouble: 'notFound' | 'unavailable' | null;
  chat: ChatSnapshot;
  /** Whether the form for name and e-mail address is to be shown first. */
  isAsking: boolean;
  needsIdentity: boolean;
  isVerified: boolean;
  earlier: readonly EarlierSession[];
  /** Grows with each conversation that is begun, so that what belongs to one starts anew. */
  generation: number;
}

/** What this page keeps over a reload, and tabs share. */
interface Kept {
  /** Name of the anonymous guest's conversation. */
  conversation: string;
  /** What the form was told; null: skipped. */
  guest?: Guest | null;
}

interface Person {
  subject: string;
  token: string;
  /** In seconds since 1970. */
  expiresAt: number;
  conversation: string;
}

const NOTHING: ChatSnapshot = { status: 'idle', messages: [], reply: null, error: null, hasEarlier: false };
const FACE_RETRY_MS = 3_000;
/** How long what is asked for a verified guest may take: meanwhile their messages wait. */
const ASK_TIMEOUT_MS = 10_000;
/** How long the embedding page has for another token. */
const TOKEN_TIMEOUT_MS = 20_000;
/** A token that ends sooner is as good as ended. */
const TOKEN_MARGIN_SECONDS = 10;

const newName = (): string => crypto.getRandomValues(new Uint32Array(2)).join('-');

/**
 * One guest at one page: which conversation is shown, and as whom. The conversation itself is the client's. A new one gets
 * a name of its own, so that the one before ends in no tab by accident.
 */
export class Store {
  state: PageState = {
    face: null,
    trouble: null,
    chat: NOTHING,
    isAsking: false,
    needsIdentity: false,
    isVerified: false,
    earlier: [],
    generation: 0,
  };
  private chat: Chat | null = null;
  private person: Person | null = null;
  /** The person whose latest conversation is being looked for: until it is known, what they send waits. */
  private searching: Person | null = null;
  private onToken: (() => void)[] = [];
  private readonly listeners = new Set<() => void>();
  private told = { session: '', message: '' };
  private readonly keptAs: string;
  private readonly storage = localStore() ?? memory();
  /** Messages that were sent before there was a chat to send them to. Of this tab alone, and kept over a reload. */
  private waiting: readonly string[] = [];
  private kept: Kept = { conversation: '' };

  constructor(
    private readonly baseUrl: string,
    private readonly chatbotId: string,
    private readonly parent: Parent,
  ) {
    this.keptAs = `assistly:page:${chatbotId}`;
    this.kept = (this.load(this.keptAs) as Kept | null) ?? this.kept;
    this.wait((this.load(this.keptAs, sessionStore()) as string[] | null) ?? []);
    addEventListener('storage', ({ key }) => {
      if (key === this.keptAs) this.followOtherTab();
    });
    addEventListener('online', () => {
      if (this.state.face === null) void this.readFace();
    });
    // A conversation that is there is gone on with, before the chatbot's face has come.
    if (this.hasStored(this.kept.conversation)) this.start();
    void this.readFace();
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  // --- what a guest does

  /** Sends a message; before it is known to whom, and as whom, it waits. */
  send = (text: string): void => {
    if (this.chat) this.chat.send(text);
    else this.wait([...this.waiting, text]);
  };
  resend = (key: string): void => this.chat?.resend(key);
  stop = (): void => void this.chat?.stop();
  retry = (): void => void this.chat?.retry();
  regenerate = (): void => void this.chat?.regenerate();
  loadEarlier = async (): Promise<void> => this.chat?.loadEarlier();

  /** What the form says; null: it was skipped. */
  introduce = (guest: Guest | null): void => {
    this.keep({ ...this.kept, guest });
    this.decide();
  };

  begin = (): void => {
    if (this.person) {
      this.person.conversation = newName();
    } else {
      this.forget(this.kept.conversation);
      this.keep({ ...this.kept, conversation: newName() });
    }
    this.restart();
  };

  /** Goes on with another of a verified guest's conversations. */
  resume = async (sessionId: string): Promise<void> => {
    const { person } = this;
    if (!person) return;
    const conversation = `session:${sessionId}`;
    if (this.hasStored(this.personPrefix + conversation)) {
      person.conversation = conversation;
      this.restart();
      return;
    }
    const answer = await this.ask<{ token: string }>(`v1/guest/sessions/${sessionId}/token`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${await this.token()}` },
    });
    if (!answer || this.person !== person) return;
    person.conversation = conversation;
    this.save(this.nameOf(this.conversation), { id: sessionId, token: answer.token });
    this.restart();
  };

  /** Reads a verified guest's conversations, and shows those that are not shown already. @returns all of them */
  readEarlier = async (): Promise<readonly EarlierSession[]> => {
    const { person } = this;
    if (!person) return [];
    const answer = await this.ask<{ data: EarlierSession[] }>(
      `v1/guest/sessions?chatbotId=${this.chatbotId}&limit=20`,
      { headers: { Authorization: `Bearer ${await this.token()}` } },
    );
    if (!answer || this.person !== person) return [];
    const all = answer.data.filter(({ messageCount }) => messageCount > 0);
    this.set({ earlier: all.filter(({ id }) => id !== this.sessionId) });
    return all;
  };

  // --- what the embedding page says

  /** From now on this person writes, whom the chatbot's owner has vouched for. */
  identify = async (token: string): Promise<void> => {
    const claims = claimsOf(token);
    if (!claims) return;
    if (this.person?.subject === claims.subject) {
      Object.assign(this.person, { token, expiresAt: claims.expiresAt });
      for (const wake of this.onToken.splice(0)) wake();
      return;
    }
    if (this.person) this.forgetPerson();
    const person: Person = { ...claims, token, conversation: 'first' };
    this.person = person;
    this.searching = person;
    this.close();
    this.set({ isVerified: true, earlier: [] });
    const [latest] = await this.readEarlier();
    if (this.searching !== person) return;
    if (latest) await this.resume(latest.id);
    if (this.searching === person) this.restart();
  };

  /** Back to an anonymous guest, with a conversation that nobody has written in. */
  logout = (): void => {
    if (!this.person) return;
    this.forgetPerson();
    this.forget(this.kept.conversation);
    this.keep({ conversation: newName() });
    this.set({ isVerified: false, earlier: [] });
    this.restart();
  };

  private forgetPerson(): void {
    this.close();
    for (const key of this.storedKeys()) {
      if (key.startsWith(this.nameOf(this.personPrefix))) this.remove(key);
    }
    this.person = null;
  }

  // --- which conversation

  private get personPrefix(): string {
    return `person:${this.person?.subject}:`;
  }

  private get conversation(): string {
    return this.person ? this.personPrefix + this.person.conversation : this.kept.conversation;
  }

  /** Of the conversation that is shown; undefined where nobody has written in it. */
  private get sessionId(): string | undefined {
    return (this.load(this.nameOf(this.conversation)) as { id: string } | null)?.id;
  }

  private nameOf(conversation: string): string {
    return storedAs({ baseUrl: this.baseUrl, chatbotId: this.chatbotId, conversation });
  }

  private restart(): void {
    this.searching = null;
    this.close();
    this.set({ generation: this.state.generation + 1 });
    this.decide();
  }

  /** Opens the chat, unless something is to be told or asked first. */
  private decide(): void {
    const { face } = this.state;
    if (!face) return;
    const hasStored = this.hasStored(this.conversation);
    const needsIdentity = face.requireIdentity && !this.person && !hasStored;
    const isAsking =
      face.appearance.askFor !== 'none' && !this.person && !hasStored && this.kept.guest === undefined;
    if (needsIdentity && !this.state.needsIdentity) this.parent.post({ type: 'identityRequired' });
    this.set({ needsIdentity, isAsking });
    if (!needsIdentity && !isAsking && !this.searching && !this.chat) this.start();
  }

  private start(): void {
    const { baseUrl, chatbotId, person, kept } = this;
    const chat = createChat({
      baseUrl,
      chatbotId,
      conversation: this.conversation,
      storage: this.storage,
      open: 'lazy', // who only looks has no session
      ...(kept.guest && !person && { guest: kept.guest }),
      ...(person && { identity: () => this.token() }),
    });
    this.chat = chat;
    chat.subscribe(() => {
      if (this.chat === chat) this.onChat();
    });
    this.onChat();
    const { waiting } = this;
    this.wait([]);
    for (const text of waiting) chat.send(text);
  }

  private close(): void {
    this.chat?.close();
    this.chat = null;
    this.wait(this.waiting);
  }

  private wait(texts: readonly string[]): void {
    this.waiting = texts;
    this.save(this.keptAs, texts, sessionStore());
    if (!this.chat) this.set({ chat: { ...NOTHING, messages: texts.map(showWaiting) } });
  }

  private onChat(): void {
    const before = this.state.chat;
    const chat = this.chat!.getSnapshot();
    this.set({ chat });
    this.tellParent(before, chat);
  }

  private tellParent(before: ChatSnapshot, { messages, reply, status }: ChatSnapshot): void {
    const session = this.sessionId;
    if (status === 'open' && session !== undefined && session !== this.told.session) {
      this.told.session = session;
      this.parent.post({ type: 'session', id: session });
    }
    const last = messages.at(-1);
    if (!last?.id || last.id === this.told.message) return;
    this.told.message = last.id;
    // What was there when the page came is no news.
    if (before.messages.length === 0 && messages.length > 1) return;
    if (before.messages.length === 0 && last.sender !== 'user') return;
    this.parent.post({ type: 'message', id: last.id, sender: last.sender });
    if (last.sender !== 'user' && last.replyId === reply?.id) this.parent.answered();
  }

  private followOtherTab(): void {
    const before = this.kept;
    this.kept = (this.load(this.keptAs) as Kept | null) ?? { conversation: '' };
    if (this.person) return;
    if (this.kept.conversation !== before.conversation) this.restart();
    else this.decide();
  }

  /** A token that is good for a while yet: the one that is there, or another that the embedding page gives. */
  private async token(): Promise<string> {
    const { person } = this;
    if (!person) throw new Error('nobody is signed in');
    if (person.expiresAt - TOKEN_MARGIN_SECONDS > Date.now() / 1000) return person.token;
    this.parent.post({ type: 'identityRequired' });
    await new Promise<void>((resolve) => {
      this.onToken.push(resolve);
      setTimeout(resolve, TOKEN_TIMEOUT_MS);
    });
    return person.token;
  }

  private async readFace(): Promise<void> {
    const response = await fetch(`${this.baseUrl}/v1/chatbots/${this.chatbotId}/public`).catch(() => null);
    if (response?.ok) {
      this.set({ face: (await response.json()) as Face, trouble: null });
      this.decide();
    } else {
      const isMissing = response?.status === 404;
      this.set({ trouble: isMissing ? 'notFound' : 'unavailable' });
      if (!isMissing) setTimeout(() => void this.readFace(), FACE_RETRY_MS);
    }
  }

  private async ask<T>(path: string, init: RequestInit): Promise<T | null> {
    const signal = AbortSignal.timeout(ASK_TIMEOUT_MS);
    const response = await fetch(`${this.baseUrl}/${path}`, { ...init, signal }).catch(() => null);
    return response?.ok ? ((await response.json()) as T) : null;
  }

  private set(change: Partial<PageState>): void {
    this.state = { ...this.state, ...change };
    for (const listener of this.listeners) listener();
  }

  // --- the storage

  private hasStored(conversation: string): boolean {
    const name = this.nameOf(conversation);
    return this.load(name) !== null || this.load(`${name}:unsent`) !== null;
  }

  private keep(kept: Kept): void {
    this.kept = kept;
    this.save(this.keptAs, kept);
  }

  private forget(conversation: string): void {
    this.remove(this.nameOf(conversation));
    this.remove(`${this.nameOf(conversation)}:unsent`);
  }

  private load(key: string, storage: KeyStore | null = this.storage): unknown {
    try {
      return JSON.parse(storage?.getItem(key) ?? 'null') as unknown;
    } catch {
      return null;
    }
  }

  private save(key: string, value: object, storage: KeyStore | null = this.storage): void {
    try {
      storage?.setItem(key, JSON.stringify(value));
    } catch {
      // full, or not allowed
    }
  }

  private remove(key: string): void {
    this.storage.removeItem(key);
  }

  private storedKeys(): string[] {
    const { storage } = this;
    return Array.from({ length: storage.length }, (_, place) => storage.key(place) ?? '');
  }
}

type KeyStore = Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>;

/** A storage of the page's, where it may be used: many browsers refuse it to frames in pages of other sites. */
function storeOf(find: () => Storage): Storage | null {
  try {
    return find();
  } catch {
    return null;
  }
}
const localStore = (): Storage | null => storeOf(() => localStorage);
const sessionStore = (): Storage | null => storeOf(() => sessionStorage);

/** Instead of it, for as long as the page lives. */
function memory(): KeyStore {
  const items = new Map<string, string>();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
    key: (place) => [...items.keys()][place] ?? null,
    get length() {
      return items.size;
    },
  };
}

const showWaiting = (content: string, place: number): ChatMessage => ({
  key: `waiting ${place}`,
  id: null,
  sender: 'user',
  content,
  replyId: null,
  createdAt: null,
  state: 'sending',
  problem: null,
});

/** Whom a token is about. Only the server can judge it: this tells one person's conversations from another's. */
export function claimsOf(token: unknown): { subject: string; expiresAt: number } | null {
  try {
    const [, payload = ''] = String(token).split('.');
    const bytes = Uint8Array.from(atob(payload.replaceAll('-', '+').replaceAll('_', '/')), (letter) =>
      letter.charCodeAt(0),
    );
    const { sub, exp } = JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown; exp?: unknown };
    return typeof sub === 'string' && sub !== '' && typeof exp === 'number'
      ? { subject: sub, expiresAt: exp }
      : null;
  } catch {
    return null;
  }
}
