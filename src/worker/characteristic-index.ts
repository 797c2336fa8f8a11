import MiniSearch, { type SearchOptions } from 'minisearch';
import { isFunctionWord, stemOf, wordsIn } from '../llm/words.js';
import type { Breather } from '../runtime/breather.js';

type Search = [term: string | null, options: SearchOptions, weight: number];

/** What is searched for, and how much it counts; the question has 1. */
export interface SearchText {
  text: string;
  weight: number;
}

/** Most entries of an index, a word of a characteristic each; a rare word takes some 600 bytes of memory. */
export const MAX_ENTRIES = 150_000;
/** Words of all texts that are looked up, the newest text's first: each costs a search. */
const MAX_WORDS = 80;
/** Of those that no characteristic holds, so many are looked up as misspelt or inflected, which costs most. */
const MAX_UNKNOWN_WORDS = 16;
/** A text is read from its end to here: what is asked stands there, and segmenting takes time. */
const MAX_TEXT_CHARS = 2_000;
/** Such a word is in nearly every sentence; it decides where nothing else does. */
const FUNCTION_WORD_WEIGHT = 0.1;
/** Words that begin with a known word are its kin more often than not. */
const KIN_WEIGHT = 0.3;
/** What an unknown word may have been, by its letters; and what begins as it begins. */
const MISSPELT_WEIGHT = 0.7;
const SAME_BEGINNING_WEIGHT = 0.4;
/** What an unknown word may be a part of, or made of. */
const COMPOUND_WEIGHT = 0.6;
const MIN_COMPOUND_CHARS = 5;
const MAX_COMPOUNDS = 10;

/**
 * The words of a chatbot's characteristics, for finding those that a question is about. It understands nothing.
 *
 * Of long texts that have more words than {@link MAX_ENTRIES} in all, those at the beginning of each are found.
 */
export class CharacteristicIndex {
  /** How many entries it has. */
  size = 0;
  private readonly terms = new Set<string>();
  private readonly index: MiniSearch<{ id: number; text: string }>;

  static async of(characteristics: readonly string[], breather: Breather): Promise<CharacteristicIndex> {
    const built = new CharacteristicIndex(Math.floor(MAX_ENTRIES / characteristics.length));
    for (const [id, text] of characteristics.entries()) {
      built.index.add({ id, text });
      await breather.pause();
    }
    return built;
  }

  private constructor(maxEntriesOfText: number) {
    this.index = new MiniSearch({
      fields: ['text'],
      tokenize: (text) => {
        const terms = termsIn(text).slice(0, maxEntriesOfText);
        this.size += terms.length;
        for (const term of terms) this.terms.add(term);
        return terms;
      },
      processTerm: (term) => term,
      searchOptions: { tokenize: (term) => [term], processTerm: (term) => term },
    });
  }

  /**
   * Finds the characteristics that have to do with some texts.
   *
   * @param texts the question first, then what was said before it
   * @returns their places in the list that the index was made of, the best first
   */
  async search(texts: readonly SearchText[], breather: Breather): Promise<number[]> {
    const scores = new Map<number, number>();
    let unknownWords = 0;
    for (const [term, weight] of weightsOf(texts)) {
      const isKnown = this.terms.has(term);
      if (!isKnown && ++unknownWords > MAX_UNKNOWN_WORDS) continue;
      for (const [place, score] of isKnown ? this.searchKnown(term) : this.searchUnknown(term)) {
        scores.set(place, (scores.get(place) ?? 0) + score * weight);
      }
      await breather.pause();
    }
    return [...scores.entries()].sort(([, a], [, b]) => b - a).map(([place]) => place);
  }

  private searchKnown(term: string): Map<number, number> {
    return this.best([
      [term, { prefix: isLong(term), weights: { prefix: KIN_WEIGHT, fuzzy: 0 } }, 1],
      [beginningOf(term), { prefix: true, weights: { prefix: 1, fuzzy: 0 } }, KIN_WEIGHT / 2],
    ]);
  }

  private searchUnknown(term: string): Map<number, number> {
    return this.best([
      [
        term,
        { prefix: isLong(term), fuzzy: editsOf(term), weights: { prefix: 1, fuzzy: 1 } },
        MISSPELT_WEIGHT,
      ],
      [beginningOf(term), { prefix: true, weights: { prefix: 1, fuzzy: 0 } }, SAME_BEGINNING_WEIGHT],
      [this.longestBeginningOf(term), {}, SAME_BEGINNING_WEIGHT],
      ...this.compoundsOf(term).map((compound): Search => [compound, {}, COMPOUND_WEIGHT]),
    ]);
  }

  /** The known word that an unknown one begins with; null: none does. */
  private longestBeginningOf(term: string): string | null {
    for (let length = term.length - 1; length >= 3; length--) {
      const beginning = term.slice(0, length);
      if (this.terms.has(beginning)) return beginning;
    }
    return null;
  }

  /** Known words that hold an unknown one, or that it holds: many languages write compounds as one word. */
  private compoundsOf(term: string): string[] {
    if (term.length < MIN_COMPOUND_CHARS) return [];
    const compounds: string[] = [];
    for (const known of this.terms) {
      if (known.includes(term) || (known.length >= MIN_COMPOUND_CHARS && term.includes(known))) {
        compounds.push(known);
        if (compounds.length === MAX_COMPOUNDS) break;
      }
    }
    return compounds;
  }

  /** The best score of each characteristic among some searches. */
  private best(searches: Search[]): Map<number, number> {
    const scores = new Map<number, number>();
    for (const [term, options, weight] of searches) {
      if (term === null) continue;
      for (const { id, score } of this.index.search(term, options)) {
        scores.set(id as number, Math.max(scores.get(id as number) ?? 0, score * weight));
      }
    }
    return scores;
  }
}

/** The words of a text as the index has them, each once. */
const termsIn = (text: string): string[] => [...new Set([...new Set(wordsIn(text))].map(toTerm))];

/**
 * The stem of a word. The index is a tree by character, of which it looks at all that may come next: a letter of a script
 * that has thousands is taken as its bytes.
 */
const toTerm = (word: string): string =>
  MANY_LETTERS.test(word) ? Buffer.from(word).toString('latin1') : stemOf(word);
const MANY_LETTERS = /[\u1200-\uffff]/;

/** The words of the texts, each with the highest weight that it has in any of them. */
function weightsOf(texts: readonly SearchText[]): Map<string, number> {
  const weights = new Map<string, number>();
  for (const { text, weight } of texts) {
    for (const word of wordsIn(text.slice(-MAX_TEXT_CHARS))) {
      if (weights.size >= MAX_WORDS) return weights;
      const term = toTerm(word);
      const counts = isFunctionWord(word) ? weight * FUNCTION_WORD_WEIGHT : weight;
      if (term !== '') weights.set(term, Math.max(weights.get(term) ?? 0, counts));
    }
  }
  return weights;
}

const isAlphabetic = (term: string): boolean => /^[\p{L}\p{N}]/u.test(term) && !/[\u0080-\u00bf]/.test(term);

/** A word of so many letters has kin that begins with it; "be" has none. */
const isLong = (term: string): boolean => term.length >= 3 && isAlphabetic(term);

/** How many letters a word may differ in and still be meant. */
const editsOf = (term: string): number => {
  if (!isLong(term)) return 0;
  return term.length >= 5 ? 2 : 1;
};

/** What inflected forms of a word have in common, in languages that inflect at the end; null for a short word. */
const beginningOf = (term: string): string | null =>
  term.length >= 6 && isAlphabetic(term) ? term.slice(0, Math.max(4, Math.ceil(term.length * 0.6))) : null;
