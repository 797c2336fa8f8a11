import { describe, expect, it } from '@jest/globals';
import { ExtractiveClient } from '../../src/llm/extractive-client.js';
import type { ChatTurn, LlmChunk } from '../../src/llm/llm-client.js';
import { cpuMsOf } from '../support/cpu-time.js';

const SHOP = [
  'We are a bicycle shop in Utrecht, run by Anna and Bob since 1998.',
  'Opening hours: Monday to Friday from 9:00 to 17:30. On Saturday we open at ten. We are closed on Sunday.',
  'Returns: unused items may be returned within 30 days, with the receipt.',
  'Shipping inside the Netherlands is free above 50 euros; abroad it costs 15 euros.',
  'The café next door serves crêpes.',
];

const NOTHING = /no information about that.*characteristics/;

async function ask(
  question: string | readonly ChatTurn[],
  characteristics: readonly string[] = SHOP,
  { signal = new AbortController().signal, pauseMs = 0 } = {},
): Promise<{ text: string; chunks: LlmChunk[] }> {
  const turns = typeof question === 'string' ? [{ role: 'user' as const, content: question }] : question;
  const chunks: LlmChunk[] = [];
  for await (const chunk of new ExtractiveClient({ pauseMs }).stream({
    model: null,
    turns,
    characteristics,
    signal,
  })) {
    chunks.push(chunk);
  }
  return { chunks, text: chunks.map((chunk) => (chunk.type === 'text' ? chunk.text : '')).join('') };
}

describe('The offline responder', () => {
  it.each([
    ['What are your opening hours?', SHOP[1]],
    ['when do you open on saturday', SHOP[1]],
    ['Can I return something I bought?', SHOP[2]],
    ['How much is shipping?', SHOP[3]],
    ['Who runs the bycicle shop?', SHOP[0]],
    ['Where can I get crepes?', SHOP[4]],
  ])('answers "%s" with the passage that matches', async (question, passage) => {
    expect((await ask(question)).text).toContain(passage!);
  });

  it.each(['What is the capital of France?', 'Do you like jazz?', 'what is it?', '???', ''])(
    'says plainly that it knows nothing about "%s"',
    async (question) => {
      expect((await ask(question)).text).toMatch(NOTHING);
    },
  );

  it('knows nothing without characteristics', async () => {
    expect((await ask('What are your opening hours?', [])).text).toMatch(NOTHING);
  });

  it.each(['hi', 'Hello!', 'hey there 👋', 'Guten Tag.', '你好'])('greets back on "%s"', async (greeting) => {
    expect((await ask(greeting)).text).toMatch(/^Hello!/);
  });

  it('does not take a question that begins with a greeting for one', async () => {
    expect((await ask('Hi, how much is shipping?')).text).toContain(SHOP[3]!);
  });

  it('gives several passages in the order in which the owner wrote them, each once', async () => {
    const facts = [
      'Red paint costs 5 euros.',
      'We like tea.',
      'Blue paint costs 6 euros.',
      'Red paint costs 5 euros.',
    ];

    expect((await ask('What does paint cost?', facts)).text).toBe(`${facts[0]}\n\n${facts[2]}`);
  });

  it('cuts a long characteristic into passages and gives only those that match', async () => {
    const filler = 'Nothing of interest stands in this sentence about the weather. '.repeat(20);
    const { text } = await ask('What about the warranty?', [
      `${filler}The warranty lasts two years. ${filler}`,
    ]);

    expect(text).toContain('The warranty lasts two years.');
    expect(text.length).toBeLessThan(500);
  });

  it('understands words in languages without spaces', async () => {
    expect(
      (await ask('営業時間は?', ['営業時間は九時から五時までです。', '駐車場はありません。'])).text,
    ).toBe('営業時間は九時から五時までです。');
  });

  it('answers what the guest wrote since the last answer', async () => {
    const { text } = await ask([
      { role: 'user', content: 'How much is shipping?' },
      { role: 'assistant', content: 'It is free above 50 euros.' },
      { role: 'user', content: 'And' },
      { role: 'user', content: 'returns?' },
    ]);

    expect(text).toBe(SHOP[2]);
  });

  it('streams word by word and ends with the finish', async () => {
    const { chunks } = await ask('How much is shipping?');

    expect(chunks.length).toBeGreaterThan(10);
    expect(chunks.slice(-1)).toEqual([{ type: 'finish', reason: 'stop', isRefusal: false }]);
  });

  it('stops when it is aborted, and throws the reason', async () => {
    const controller = new AbortController();
    const reason = new Error('The guest cancelled.');
    const answer = ask('How much is shipping?', SHOP, { signal: controller.signal, pauseMs: 60_000 });
    controller.abort(reason);

    await expect(answer).rejects.toBe(reason);
  });

  it('is recorded as "extractive", whatever model the chatbot has', () => {
    expect(new ExtractiveClient().modelFor()).toBe('extractive');
  });

  it.each([
    [
      'many characteristics',
      Array.from({ length: 100_000 }, (_, n) => `Fact number ${n} is about bicycles.`),
    ],
    ['one without an end', ['bicycle'.repeat(1_000_000)]],
    ['one with only spaces', [' '.repeat(1_000_000)]],
  ])('answers within two seconds from %s', async (_, characteristics) => {
    expect(await cpuMsOf(() => ask('What about bicycles?', characteristics))).toBeLessThan(2_000);
  });
});
