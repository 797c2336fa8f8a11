import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { Breather } from '../runtime/breather.js';
import { CharacteristicIndex, MAX_ENTRIES, type SearchText } from './characteristic-index.js';
import type { CountedText } from './prompt-parts.js';
import type { PromptInput } from './prompt.js';

/** Of the room for characteristics: what the first of them have in any case, where the owner puts what matters always. */
const BASE_SHARE = 1 / 5;
/** Messages before the question that are searched for too: it may speak of what they named. */
const SEARCHED_MESSAGES = 4;
/** How much less a message counts than the one after it, and an answer than a guest's own words. */
const EARLIER_WEIGHT = 0.6;
const ANSWER_WEIGHT = 0.5;
/** Entries of all indexes that are kept: one of the largest, or a dozen of the usual ones. */
const MAX_KEPT_ENTRIES = 1.25 * MAX_ENTRIES;

type Choosable = Pick<PromptInput, 'characteristics' | 'history' | 'question'>;

/** Chooses the characteristics of a prompt that cannot hold all of them. */
@Injectable()
export class CharacteristicChoice {
  /** The least recently used first. */
  private readonly indexes = new Map<string, CharacteristicIndex>();
  private readonly building = new Map<string, Promise<CharacteristicIndex>>();

  /**
   * All of them where they fit; else those that fit the question best, with the first of the owner's as a base.
   *
   * @returns in the owner's order
   */
  async choose(
    { characteristics, history, question }: Choosable,
    roomTokens: number,
    breather: Breather,
  ): Promise<readonly CountedText[]> {
    if (sumOf(characteristics) <= roomTokens) return characteristics;
    if (roomTokens === 0) return [];
    const index = await this.indexOf(
      characteristics.map(({ text }) => text),
      breather,
    );
    const found = await index.search(searchTexts(history, question), breather);

    const chosen = new Set<number>();
    let restTokens = roomTokens;
    const take = (places: Iterable<number>, leaveTokens = 0): void => {
      for (const place of places) {
        const { tokens } = characteristics[place]!;
        if (chosen.has(place) || tokens > restTokens - leaveTokens) continue;
        chosen.add(place);
        restTokens -= tokens;
      }
    };
    take(found.slice(0, 1));
    take(characteristics.keys(), restTokens * (1 - BASE_SHARE));
    take(found);
    take(characteristics.keys());
    return characteristics.filter((_, place) => chosen.has(place));
  }

  /** The index of some texts: kept, or built once for all who ask for it at the same time. */
  private async indexOf(texts: readonly string[], breather: Breather): Promise<CharacteristicIndex> {
    const hash = createHash('sha256');
    for (const text of texts) hash.update(text).update('\0');
    const key = hash.digest('base64');
    let index = this.indexes.get(key);
    if (!index) {
      const building = this.building.get(key) ?? CharacteristicIndex.of(texts, breather);
      this.building.set(key, building);
      index = await building.finally(() => this.building.delete(key));
    }
    this.indexes.delete(key);
    this.indexes.set(key, index);
    this.forgetOldest();
    return index;
  }

  private forgetOldest(): void {
    let entries = [...this.indexes.values()].reduce((sum, { size }) => sum + size, 0);
    for (const [key, { size }] of this.indexes) {
      if (entries <= MAX_KEPT_ENTRIES) return;
      this.indexes.delete(key);
      entries -= size;
    }
  }
}

const sumOf = (texts: readonly CountedText[]): number => texts.reduce((sum, { tokens }) => sum + tokens, 0);

/** The question first, then what was said before it, the newest first. */
function searchTexts(history: Choosable['history'], question: Choosable['question']): SearchText[] {
  const before = history
    .slice(-SEARCHED_MESSAGES)
    .reverse()
    .map(({ sender, content }, n) => ({
      text: content,
      weight: EARLIER_WEIGHT ** (n + 1) * (sender === 'ai' ? ANSWER_WEIGHT : 1),
    }));
  return [{ text: question.map(({ content }) => content).join('\n'), weight: 1 }, ...before];
}
