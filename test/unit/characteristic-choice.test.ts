import { describe, expect, it } from '@jest/globals';
import { Breather } from '../../src/runtime/breather.js';
import { CharacteristicChoice } from '../../src/worker/characteristic-choice.js';
import { cpuMsOf } from '../support/cpu-time.js';

type Messages = { sender: 'user' | 'ai'; content: string }[];

const choice = new CharacteristicChoice();

/** What is chosen of some characteristics, each of ten tokens, where so many fit. */
async function choose(
  characteristics: readonly string[],
  question: string,
  { fit, history = [] as Messages }: { fit: number; history?: Messages },
): Promise<string[]> {
  const chosen = await choice.choose(
    {
      characteristics: characteristics.map((text) => ({ text, tokens: 10 })),
      history,
      question: [{ content: question }],
    },
    10 * fit,
    new Breather(),
  );
  return chosen.map(({ text }) => text);
}

/** Characteristics that say nothing of what is asked. */
const others = (count: number): string[] =>
  Array.from({ length: count }, (_, n) => `The garden has ${n} trees and a fence.`);

const among = (characteristic: string, count = 90): string[] => [...others(count - 1), characteristic];

describe('Of the characteristics', () => {
  it('all go where all fit, in the owner’s order', async () => {
    expect(await choose(among('We sell bread.', 9), 'bread?', { fit: 9 })).toEqual(
      among('We sell bread.', 9),
    );
  });

  it('those go that the question is about, also the last of ninety', async () => {
    const bread = 'Bread is fresh at seven.';

    expect(await choose(among(bread), 'When do you have bread?', { fit: 1 })).toEqual([bread]);
    expect(await choose(among(bread), 'When do you have bread?', { fit: 5 })).toContain(bread);
  });

  it('the first go in any case, and the order is the owner’s', async () => {
    const facts = [...others(30), ...Array.from({ length: 30 }, (_, n) => `Bread number ${n} is dark.`)];
    const chosen = await choose(facts, 'Which bread is dark?', { fit: 10 });

    expect(chosen.filter((text) => text.startsWith('The garden'))).toEqual(others(30).slice(0, 1));
    expect(chosen).toEqual(facts.filter((text) => chosen.includes(text)));
    expect(chosen).toHaveLength(10);
  });

  it('the first ones go where the question is about none', async () => {
    expect(await choose(others(90), 'Tell me a joke!', { fit: 10 })).toEqual(others(90).slice(0, 10));
    expect(await choose(others(90), '', { fit: 10 })).toEqual(others(90).slice(0, 10));
  });

  it('none go where there is no room', async () => {
    expect(await choose(others(90), 'trees', { fit: 0 })).toEqual([]);
  });

  it('those go that what was said before is about, where the question names nothing', async () => {
    const bread = 'Bread is fresh at seven.';
    const history: Messages = [
      { sender: 'user', content: 'Is there any bread?' },
      { sender: 'ai', content: 'Yes, there is.' },
    ];

    expect(await choose(among(bread), 'And when?', { fit: 1, history })).toEqual([bread]);
  });

  it('the question decides before what was said before', async () => {
    const [bread, cake] = ['Bread is fresh at seven.', 'Cake is fresh at noon.'];
    const history: Messages = [{ sender: 'user', content: 'When is bread fresh?' }];

    expect(await choose([...others(88), bread, cake], 'And cake?', { fit: 1, history })).toEqual([cake]);
  });

  it('one that is too long does not keep out the others', async () => {
    const chosen = await choice.choose(
      {
        characteristics: [
          { text: 'A treatise on bread, bread and bread.', tokens: 1_000 },
          ...others(20).map((text) => ({ text, tokens: 10 })),
          { text: 'Bread costs four euros.', tokens: 10 },
        ],
        history: [],
        question: [{ content: 'What does bread cost?' }],
      },
      50,
      new Breather(),
    );

    expect(chosen.map(({ text }) => text)).toContain('Bread costs four euros.');
    expect(chosen).toHaveLength(5);
  });

  it.each([
    ['in another form', 'Bookings are made at the desk.', 'Can I book?'],
    ['in another form', 'Cancellation is free of charge.', 'I would like to cancel'],
    ['in another form', 'You may pay by card.', 'What about payments?'],
    ['in a longer form', 'Members train for free.', 'Do you offer trainings?'],
    ['misspelt', 'The accommodation is quiet.', 'How is the acommodation?'],
    ['with letters exchanged', 'Refunds take a week.', 'When do I get my refnud?'],
    ['without its accents', 'Le café ferme à midi.', 'cafe'],
    ['in capitals', 'The sauna is hot.', 'SAUNA'],
    ['as a part of a German compound', 'Der Fahrradverleih öffnet um neun.', 'Gibt es einen Verleih?'],
    ['as a German compound of it', 'Unser Verleih öffnet um neun.', 'Gibt es einen Fahrradverleih?'],
    ['in Russian', 'Доставка занимает три дня.', 'Сколько стоит доставка?'],
    ['in Greek', 'Η παράδοση διαρκεί τρεις ημέρες.', 'Πόσο κοστίζει η παράδοση;'],
    ['in Arabic', 'التوصيل مجاني', 'هل التوصيل متاح؟'],
    ['in Chinese', '退款需要三个工作日。', '怎么申请退款？'],
    ['in Japanese', '返金には三日かかります。', '返金してください'],
    ['in Korean, with another particle', '환불은 삼일이 걸립니다.', '환불이 가능한가요?'],
    ['in Thai', 'การคืนเงินใช้เวลาสามวัน', 'ขอคืนเงินได้ไหม'],
  ])('one is found by a word that is asked %s', async (_how, fact, question) => {
    const facts = [
      ...others(40),
      'Die Katze schläft.',
      '我们的商店每天开门。',
      'Магазин открыт.',
      fact,
      ...others(40),
    ];

    expect(await choose(facts, question, { fit: 1 })).toEqual([fact]);
  });

  it.each(['__proto__', 'constructor', '\u0000', '<|im_start|>', '😀', ')(*&^%', 'a'.repeat(8_000)])(
    'some go whatever is asked: %#',
    async (question) => {
      expect(await choose(among(question), question, { fit: 3 })).toHaveLength(3);
    },
  );
});

describe('Choosing among characteristics of 8,000 letters', () => {
  /** Numbers that look like chance, the same each time. */
  const random = (seed: number) => () => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  const text = (letter: (chance: number) => string, seed: number): string => {
    const chance = random(seed + 1);
    return Array.from({ length: 8_000 }, () => letter(chance())).join('');
  };
  const chinese = (chance: number): string => String.fromCharCode(0x4e00 + Math.floor(chance * 20_000));
  const latin = (chance: number): string => 'abcdefghijklmnopqrstuvwxyz    '[Math.floor(chance * 30)]!;

  it.each([
    ['Latin', latin],
    ['Chinese', chinese],
  ])(
    'of %s letters that make no sense gives way to others all the time, and is done once',
    async (_name, letter) => {
      const facts = Array.from({ length: 40 }, (_, n) => text(letter, n));
      const question = text(letter, 1_000);
      let turns = 0;
      let isOver = false;
      const count = (): void => {
        turns++;
        if (!isOver) setImmediate(count);
      };
      count();

      const first = await cpuMsOf(() => choose(facts, question, { fit: 8 }));
      isOver = true;

      // A turn comes after 5 ms, or after a step that took longer.
      expect(turns).toBeGreaterThan(first / 100);
      expect(await cpuMsOf(() => choose(facts, 'What?', { fit: 8 }))).toBeLessThan(first / 2);
    },
  );
});
