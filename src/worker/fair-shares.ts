import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import type { Shareholder } from '../conversations/reply-store/waiting.js';

/** How many of them are known to be anybody's; one that is forgotten is asked for again. */
const MAX_KNOWN_OWNERS = 10_000;

/**
 * Who holds how many of the worker's slots. No chatbot holds all of them, and no owner, so that a newcomer finds one free
 * however many ask one chatbot at once.
 */
@Injectable()
export class FairShares {
  private readonly capacity: number;
  private readonly ofChatbot: Share;
  private readonly ofOwner: Share;
  private running = 0;
  private readonly owners = new Map<string, string>();

  constructor(
    @Inject(CONFIG)
    config: Pick<Config, 'REPLY_CONCURRENCY' | 'REPLY_SHARE_OF_CHATBOT' | 'REPLY_SHARE_OF_OWNER'>,
  ) {
    this.capacity = config.REPLY_CONCURRENCY;
    const part = (percent: number): number => Math.max(1, Math.floor((this.capacity * percent) / 100));
    this.ofChatbot = new Share(part(config.REPLY_SHARE_OF_CHATBOT));
    this.ofOwner = new Share(part(config.REPLY_SHARE_OF_OWNER));
  }

  /** Whether only the last slot is free: others may wait for it, and have a better right to it than who comes first. */
  get isCrowded(): boolean {
    return this.running >= this.capacity - 1;
  }

  /** Who may not have another slot. */
  get full(): { chatbots: string[]; owners: string[] } {
    return { chatbots: this.ofChatbot.full, owners: this.ofOwner.full };
  }

  /** @param who null: nobody knows, as of a job of an older version @returns whether there is a slot for it; then it is taken */
  enter(who: Shareholder | null): boolean {
    if (who && (this.ofChatbot.isFull(who.chatbotId) || this.ofOwner.isFull(who.ownerId))) return false;
    this.count(who, 1);
    return true;
  }

  leave(who: Shareholder | null): void {
    this.count(who, -1);
  }

  private count(who: Shareholder | null, change: 1 | -1): void {
    this.running += change;
    if (!who) return;
    this.ofChatbot.count(who.chatbotId, change);
    this.ofOwner.count(who.ownerId, change);
  }

  /** How many slots its owner holds; 0 where nobody knows. */
  heldByOwnerOf(who: Shareholder | null): number {
    return who === null ? 0 : this.ofOwner.heldBy(who.ownerId);
  }

  /** @param find asks for the owner of a chatbot that is not known yet */
  async shareholderOf(
    chatbotId: string | null | undefined,
    find: (chatbotId: string) => Promise<string | null>,
  ): Promise<Shareholder | null> {
    if (chatbotId == null) return null;
    let ownerId = this.owners.get(chatbotId) ?? null;
    if (ownerId === null) {
      ownerId = await find(chatbotId);
      if (ownerId === null) return null;
      if (this.owners.size >= MAX_KNOWN_OWNERS) this.owners.clear();
      this.owners.set(chatbotId, ownerId);
    }
    return { chatbotId, ownerId };
  }
}

/** Of each, how many slots it holds. */
class Share {
  private readonly held = new Map<string, number>();

  constructor(private readonly max: number) {}

  heldBy(id: string): number {
    return this.held.get(id) ?? 0;
  }

  isFull(id: string): boolean {
    return this.heldBy(id) >= this.max;
  }

  get full(): string[] {
    return [...this.held.keys()].filter((id) => this.isFull(id));
  }

  count(id: string, change: 1 | -1): void {
    const held = this.heldBy(id) + change;
    if (held === 0) this.held.delete(id);
    else this.held.set(id, held);
  }
}
