import { describe, expect, it } from '@jest/globals';
import { WellFormedText } from '../../src/llm/well-formed.js';

function pushAll(chunks: readonly string[]): string[] {
  const text = new WellFormedText();
  return [...chunks.map((chunk) => text.push(chunk)), text.end()];
}

describe('Streamed text', () => {
  it('passes through as it is when it is well-formed', () => {
    expect(pushAll(['Hello', ' ', 'naïve 漢字 😀', ''])).toEqual(['Hello', ' ', 'naïve 漢字 😀', '', '']);
  });

  it('keeps the first half of a split surrogate pair back until its second half comes', () => {
    expect(pushAll(['a\ud83d', '\ude00b'])).toEqual(['a', '😀b', '']);
  });

  it('keeps it back across empty chunks', () => {
    expect(pushAll(['\ud83d', '', '\ude00'])).toEqual(['', '', '😀', '']);
  });

  it('has U+FFFD in place of a half whose partner never comes', () => {
    expect(pushAll(['\ud83d', 'x', '\ude00', '\ud83d\ud83d', '\ude00'])).toEqual([
      '',
      '\ufffdx',
      '\ufffd',
      '\ufffd',
      '😀',
      '',
    ]);
    expect(pushAll(['end\ud83d'])).toEqual(['end', '\ufffd']);
  });

  it('loses its NUL characters, also within a split pair', () => {
    expect(pushAll(['a\0b', '\0', '\ud83d\0', '\0\ude00'])).toEqual(['ab', '', '', '😀', '']);
  });

  it('is the same wherever it is cut', () => {
    const whole = 'é👩‍👩‍👧😀漢\ud83d!';
    const cutAt = (at: number) => pushAll([whole.slice(0, at), whole.slice(at)]).join('');

    expect(new Set(Array.from({ length: whole.length + 1 }, (_, at) => cutAt(at)))).toEqual(
      new Set([whole.toWellFormed()]),
    );
  });
});
