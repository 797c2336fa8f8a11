/**
 * Takes a model's thoughts out of its text while it streams. Some servers send what a model thinks in front of its
 * answer, between tags, as if it were the answer. A tag that is the first visible text opens a thought; a text that
 * mentions such a tag further on is left alone.
 */

/** Names that stand between `<` and `>`, closed by the same with a slash. */
const NAMES = [
  'think',
  'thinking',
  'thought',
  'thoughts',
  'reasoning',
  'reason',
  'reflection',
  'analysis',
  'scratchpad',
  'inner_monologue',
  'internal_monologue',
  'chain_of_thought',
  'cot',
  'antthinking',
  'seed:think', // ByteDance Seed
  'thinking_process',
  'thought_process',
];

/** Pairs of other shapes. */
const PAIRS: readonly (readonly [string, string])[] = [
  ['[think]', '[/think]'], // Magistral
  ['[thinking]', '[/thinking]'],
  ['◁think▷', '◁/think▷'], // Kimi
  ['<|begin_of_thought|>', '<|end_of_thought|>'],
  ['<|begin_of_thinking|>', '<|end_of_thinking|>'],
  ['<|start_thinking|>', '<|end_thinking|>'], // Cohere
  ['<|think|>', '<|/think|>'],
  ['<|thinking|>', '<|/thinking|>'],
  ['<|thought|>', '<|/thought|>'],
  ['<unused94>', '<unused95>'], // Gemma
  ['<|channel|>analysis<|message|>', '<|channel|>final<|message|>'], // gpt-oss, without its template
  ['<|start|>assistant<|channel|>analysis<|message|>', '<|channel|>final<|message|>'],
];

interface Tag {
  open: string;
  close: string;
  /** Whether attributes may stand before its `>`. */
  hasAttributes: boolean;
}

const TAGS: readonly Tag[] = [
  ...NAMES.map((name) => ({ open: `<${name}`, close: `</${name}>`, hasAttributes: true })),
  ...PAIRS.map(([open, close]) => ({ open, close, hasAttributes: false })),
];

/** An opening tag with attributes is no longer; what has not been closed by then is a text. */
const MAX_TAG_CHARS = 200;
const LONGEST_CLOSE = Math.max(...TAGS.map(({ close }) => close.length));

/** Every way to end a thought, for a model whose answer begins inside of one. */
const ANY_CLOSE = [...new Set(TAGS.map(({ close }) => close))];

export class ThoughtFilter {
  private state: 'undecided' | 'thinking' | 'answering';
  /** What closes the thought that is open. */
  private closers: readonly string[] = [];
  /** Not decided on yet: the beginning of a text, or the end of a thought in which a closing tag may begin. */
  private held = '';
  private hasThoughtBefore = false;
  /** Whether anything was taken out. */
  hasThought = false;

  /** @param thinksFirst the answer begins inside a thought, whose opening tag the server has kept to itself */
  constructor(thinksFirst = false) {
    this.state = thinksFirst ? 'thinking' : 'undecided';
    if (thinksFirst) this.closers = ANY_CLOSE;
  }

  /** Whether the model is thinking, as far as its text tells. */
  get isThinking(): boolean {
    return this.state === 'thinking';
  }

  /** @returns the part that is answer for certain; empty when nothing is */
  push(text: string): string {
    if (this.state === 'answering' || text === '') return text;
    this.held += text;
    for (;;) {
      if (this.state === 'thinking') {
        if (!this.closeThought()) return '';
      } else {
        const decision = this.decide();
        if (decision === 'wait') return '';
        if (decision === 'answer') return this.release();
      }
    }
  }

  /** The text has ended. @returns what was held back and turned out to be answer */
  end(): string {
    if (this.state === 'thinking') {
      this.hasThought ||= this.held.trim() !== '';
      this.held = '';
      return '';
    }
    return this.release();
  }

  /** Drops what is thought. @returns whether it has ended */
  private closeThought(): boolean {
    this.hasThought ||= this.held.trim() !== '';
    const lower = lowered(this.held);
    const [closer, at] = this.closers
      .map((close): [string, number] => [close, lower.indexOf(close)])
      .filter(([, index]) => index >= 0)
      .reduce<[string, number]>(
        (first, found) => (first[1] < 0 || found[1] < first[1] ? found : first),
        ['', -1],
      );
    if (at < 0) {
      this.held = this.held.slice(-LONGEST_CLOSE);
      return false;
    }
    this.hasThought = true;
    this.hasThoughtBefore = true;
    this.held = this.held.slice(at + closer.length);
    this.state = 'undecided';
    return true;
  }

  /** Whether the held text opens a thought, may come to open one, or is answer. */
  private decide(): 'thought' | 'wait' | 'answer' {
    const visible = lowered(this.held.trimStart());
    if (visible === '') return 'wait';
    let mayOpen = false;
    for (const tag of TAGS) {
      if (visible.length < tag.open.length) {
        mayOpen ||= tag.open.startsWith(visible);
        continue;
      }
      if (!visible.startsWith(tag.open)) continue;
      const end = tag.hasAttributes ? endOfTag(visible, tag.open.length) : tag.open.length;
      if (end === null) continue;
      if (end === 'open') {
        mayOpen = true;
        continue;
      }
      this.state = 'thinking';
      this.closers = [tag.close];
      this.hasThought = true;
      this.held = this.held.trimStart().slice(end);
      return 'thought';
    }
    return mayOpen ? 'wait' : 'answer';
  }

  /** What is held is answer, and so is all that follows. The space between a thought and its answer is neither. */
  private release(): string {
    const text = this.hasThoughtBefore ? this.held.trimStart() : this.held;
    this.state = 'answering';
    this.held = '';
    return text;
  }
}

/** Where a tag with attributes ends, behind its `>`; `open` where more has to come; null where it is none. */
function endOfTag(text: string, from: number): number | 'open' | null {
  const next = text[from];
  if (next === undefined) return 'open';
  if (next === '>') return from + 1;
  if (!/\s/.test(next)) return null;
  const end = text.slice(0, MAX_TAG_CHARS).search(/[<>\n]/) < 0 ? -1 : text.indexOf('>', from);
  if (end >= 0 && end < MAX_TAG_CHARS && !/[<\n]/.test(text.slice(from, end))) return end + 1;
  return text.length < MAX_TAG_CHARS && !/[<\n>]/.test(text.slice(from)) ? 'open' : null;
}

/** Lower case without a change of length, so that places in it are places in the text. */
const lowered = (text: string): string => text.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase());
