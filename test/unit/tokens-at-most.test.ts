import { describe, expect, it } from '@jest/globals';
import { countTokens } from '../../src/llm/tokens.js';
import { SINGLE, tokensAtMost } from '../../src/llm/tokens-at-most.js';

/** What a guest may read in a reply: language, and how many times its tokens the bound may be. */
const ORDINARY: [string, number, string][] = [
  [
    'English',
    4,
    'The shop is open from nine to five, and nobody was ever unhappy about its opening hours. Our rye bread is baked with sourdough only.',
  ],
  [
    'German',
    4.5,
    'Unsere Bäckerei ist von Montag bis Samstag geöffnet; größere Bestellungen nehmen wir gern einen Tag vorher entgegen.',
  ],
  [
    'French',
    4,
    'Notre boulangerie est ouverte du lundi au samedi, et le pain est préparé chaque matin avec du levain naturel.',
  ],
  [
    'Vietnamese',
    4,
    'Cửa hàng của chúng tôi mở cửa từ chín giờ sáng đến năm giờ chiều, rất vui được phục vụ quý khách.',
  ],
  [
    'Greek',
    4,
    'Το κατάστημά μας είναι ανοιχτό από τις εννέα έως τις πέντε και χαιρόμαστε πάντα να σας βλέπουμε.',
  ],
  [
    'Russian',
    4,
    'Наш магазин открыт с девяти до пяти, и мы всегда рады видеть вас. Хлеб выпекается каждое утро.',
  ],
  ['Hebrew', 4, 'החנות שלנו פתוחה מתשע בבוקר עד חמש אחר הצהריים ואנחנו תמיד שמחים לראות אתכם.'],
  ['Arabic', 4, 'متجرنا مفتوح من التاسعة صباحا حتى الخامسة مساء ونحن سعداء دائما برؤيتكم'],
  ['Hindi', 4.5, 'हमारी दुकान सुबह नौ बजे से शाम पाँच बजे तक खुली रहती है और हम हमेशा आपका स्वागत करते हैं।'],
  ['Thai', 4.5, 'ร้านของเราเปิดตั้งแต่เก้าโมงเช้าถึงห้าโมงเย็น และเรายินดีต้อนรับคุณเสมอ'],
  ['Chinese', 4, '我们的商店从早上九点营业到下午五点，欢迎您随时光临。面包每天早上新鲜出炉。'],
  [
    'Japanese',
    4,
    '当店は朝九時から夕方五時まで営業しております。パンは毎朝焼きたてです。ご来店をお待ちしております。',
  ],
  ['Korean', 4, '저희 가게는 아침 아홉 시부터 오후 다섯 시까지 영업합니다. 빵은 매일 아침 새로 굽습니다.'],
  ['a list', 4, '- Monday: 7:00 to 18:00\n- Saturday: 8:00 to 13:30\n\nCall **+49 30 1234567** to order.'],
  ['code', 4.5, 'export function sum(values) {\n  return values.reduce((a, b) => a + b, 0);\n}\n'],
  ['emoji', 4, '😀🎉👍 🍞🥐 👩‍👩‍👧‍👦 🇩🇪'],
];

/** Inclusive ranges of code points that random texts are drawn from. */
const ALPHABETS: [string, [number, number][]][] = [
  ['small letters', [[0x61, 0x7a]]],
  ['letters', [[0x41, 0x5a], [0x61, 0x7a]]], // prettier-ignore
  ['words', [[0x61, 0x7a], [0x61, 0x7a], [0x20, 0x20]]], // prettier-ignore
  ['printable ASCII', [[0x20, 0x7e]]],
  ['digits', [[0x30, 0x39]]],
  ['white space', [[0x20, 0x20], [0x09, 0x0d], [0xa0, 0xa0]]], // prettier-ignore
  ['Latin with marks', [[0x61, 0x7a], [0xc0, 0x24f], [0x300, 0x36f]]], // prettier-ignore
  ['Vietnamese', [[0x61, 0x7a], [0x1ea0, 0x1ef9]]], // prettier-ignore
  ['Greek', [[0x370, 0x3ff]]],
  ['Cyrillic', [[0x400, 0x52f]]],
  ['Hebrew', [[0x590, 0x5ff]]],
  ['Arabic', [[0x600, 0x6ff]]],
  ['Devanagari', [[0x900, 0x97f]]],
  ['Bengali', [[0x980, 0x9ff]]],
  ['Tamil', [[0xb80, 0xbff]]],
  ['Thai', [[0xe00, 0xe7f]]],
  ['kana', [[0x3000, 0x30ff]]],
  ['Chinese', [[0x4e00, 0x9fff]]],
  ['Korean', [[0xac00, 0xd7a3]]],
  ['full width', [[0xff00, 0xffef]]],
  ['emoji', [[0x1f300, 0x1faff], [0x200d, 0x200d], [0xfe0f, 0xfe0f]]], // prettier-ignore
  ['halves of pairs', [[0xd800, 0xdfff], [0x61, 0x7a]]], // prettier-ignore
  ['anything of the first plane', [[0x0000, 0xffff]]],
  ['anything', [[0x0000, 0x10ffff]]],
];

/** The same numbers on each run, so that a failure comes again. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Of few different characters, for what is alike merges least and most. */
function randomText(ranges: [number, number][], random: (below: number) => number): string {
  const alphabet = Array.from({ length: 1 + random(12) }, () => {
    const [first, last] = ranges[random(ranges.length)]!;
    return String.fromCodePoint(first + random(last - first + 1));
  });
  return Array.from({ length: random(60) }, () => alphabet[random(alphabet.length)]).join('');
}

describe('The most tokens that a text can have', () => {
  it.each(ORDINARY)('for %s is between its tokens and %d times as many', (_, factor, text) => {
    const tokens = countTokens(text);

    expect(tokensAtMost(text)).toBeGreaterThanOrEqual(tokens);
    expect(tokensAtMost(text)).toBeLessThanOrEqual(tokens * factor);
  });

  it.each(ALPHABETS)('is never below the tokens of a random text of %s', (_, ranges) => {
    const random = randomNumbers(ranges.flat().reduce((sum, point) => sum + point));
    for (let i = 0; i < 200; i++) {
      const text = randomText(ranges, random);
      if (tokensAtMost(text) < countTokens(text)) throw new Error(`too low for ${JSON.stringify(text)}`);
    }
  });

  it('is never below those of a long text, which is counted in pieces', () => {
    const random = randomNumbers(1);
    for (const [name, ranges] of ALPHABETS) {
      const text = Array.from({ length: 60 }, () => randomText(ranges, random)).join('');
      if (tokensAtMost(text) < countTokens(text)) throw new Error(`too low for ${name}`);
    }
    for (const [, , text] of ORDINARY) {
      const long = text.repeat(15);
      expect(tokensAtMost(long)).toBeGreaterThanOrEqual(countTokens(long));
    }
  });

  it('of nothing is 0', () => {
    expect(tokensAtMost('')).toBe(0);
  });

  it('rests on characters that are one token each', () => {
    const all = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code)).join('');
    const singles = all.match(SINGLE) ?? [];

    expect(singles.length).toBeGreaterThan(700);
    expect(singles.filter((character) => countTokens(character) !== 1)).toEqual([]);
  });

  it('rests on letters of which any two are one token, with a space before them, too', () => {
    const letters = [...'abcdefghilmnoprstuvwy'];
    const pairs = letters.flatMap((first) => [` ${first}`, ...letters.map((second) => first + second)]);

    expect(pairs.filter((pair) => countTokens(pair) !== 1)).toEqual([]);
  });
});
