/**
 * What of a text that grows may be read aloud: its whole sentences, each once. An answer that comes in pieces is announced
 * by these, not by its pieces.
 */
export class Sentences {
  private said = 0;
  private readonly segmenter: Intl.Segmenter;

  constructor(language: string) {
    this.segmenter = new Intl.Segmenter(language, { granularity: 'sentence' });
  }

  /** @returns what is new and whole; at the end, all that is new */
  next(text: string, isEnd: boolean): string {
    if (text.length < this.said) this.said = 0; // another attempt
    const rest = text.slice(this.said);
    const segments = [...this.segmenter.segment(rest)];
    const whole = isEnd ? segments : segments.slice(0, -1); // the last may go on
    const spoken = whole.map(({ segment }) => segment).join('');
    this.said += spoken.length;
    return spoken.trim();
  }
}
