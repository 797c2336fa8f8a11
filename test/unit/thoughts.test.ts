import { describe, expect, it } from '@jest/globals';
import { ThoughtFilter } from '../../src/llm/thoughts.js';

/** What is left of a text that comes in these pieces. */
function filtered(pieces: Iterable<string>, thinksFirst = false): string {
  const filter = new ThoughtFilter(thinksFirst);
  let text = '';
  for (const piece of pieces) text += filter.push(piece);
  return text + filter.end();
}
/** The same, whole, in halves at each place, and letter by letter. */
function everyWay(text: string, thinksFirst = false): Set<string> {
  const halves = Array.from({ length: text.length }, (_, at) => [text.slice(0, at), text.slice(at)]);
  return new Set([[text], text.split(''), ...halves].map((pieces) => filtered(pieces, thinksFirst)));
}

describe('A thought in front of an answer', () => {
  it.each([
    ['<think>Let me see.</think>We open at 7.'],
    ['<think>\nLet me see.\n</think>\n\nWe open at 7.'],
    ['  \n<think>Let me see.</think> We open at 7.'],
    ['<THINK>Let me see.</Think>We open at 7.'],
    ['<thinking>a < b and <b>bold</b></thinking>We open at 7.'],
    ['<thought>x</thought>We open at 7.'],
    ['<reasoning>x</reasoning>We open at 7.'],
    ['<reflection>x</reflection>We open at 7.'],
    ['<think time="3s" id=\'1\'>x</think>We open at 7.'],
    ['<think >x</think>We open at 7.'],
    ['<think></think>We open at 7.'],
    ['<think>one</think>\n<think>two</think>\nWe open at 7.'],
    ['<seed:think>x</seed:think>We open at 7.'],
    ['[THINK]x[/THINK]We open at 7.'],
    ['◁think▷x◁/think▷We open at 7.'],
    ['<|begin_of_thought|>x<|end_of_thought|>We open at 7.'],
    ['<|START_THINKING|>x<|END_THINKING|>We open at 7.'],
    ['<unused94>x<unused95>We open at 7.'],
    ['<|channel|>analysis<|message|>x<|channel|>final<|message|>We open at 7.'],
    ['<think>İstanbul ẞ 😀 x</think>We open at 7.'],
  ])('is left out, however it is cut into pieces: %j', (text) => {
    expect(everyWay(text)).toEqual(new Set(['We open at 7.']));
  });

  it('that is never closed was all of it', () => {
    expect(everyWay('<think>Hm, what to say')).toEqual(new Set(['']));
    expect(everyWay('<think>Hm </thi')).toEqual(new Set(['']));
  });

  it('is told of', () => {
    const filter = new ThoughtFilter();
    filter.push('<think>x');

    expect([filter.isThinking, filter.hasThought]).toEqual([true, true]);
  });
});

describe('A text', () => {
  it.each([
    ['We open at 7.'],
    ['Write <think> in front of it, and </think> behind.'],
    ['  \n leading space stays'],
    ['<b>bold</b> text'],
    ['<thinker>is another tag</thinker>'],
    ['<thinkpad is a computer'],
    ['<'],
    ['<think'],
    ['< think>no tag</think>'],
    ['[thin] ice'],
    ['The tag </think> closes it.'],
    [''],
    ['   '],
    [`<think ${'x'.repeat(300)}>not a tag any more</think>`],
  ])('that only mentions tags, or has others, is left alone: %j', (text) => {
    expect(everyWay(text)).toEqual(new Set([text]));
  });

  it('is shown at once where it cannot become a tag', () => {
    const filter = new ThoughtFilter();

    expect(filter.push('We')).toBe('We');
    expect(filter.push(' <think>')).toBe(' <think>');
  });

  it('is not kept waiting by a tag that never ends', () => {
    const filter = new ThoughtFilter();

    expect(filter.push(`<think ${'x'.repeat(250)}`)).not.toBe('');
  });
});

describe('An answer that begins inside a thought', () => {
  it.each([
    ['Hm.</think>We open at 7.'],
    ['Hm.\n</thinking>\n\nWe open at 7.'],
    ['<think>Hm.</think>We open at 7.'],
  ])('of a model that is known for it: %j', (text) => {
    expect(everyWay(text, true)).toEqual(new Set(['We open at 7.']));
  });

  it('of any other model is shown as it comes', () => {
    expect(filtered(['Hm.</think>We open at 7.'])).toBe('Hm.</think>We open at 7.');
  });
});
