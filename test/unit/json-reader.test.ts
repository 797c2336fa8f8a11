import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

const { JsonReader } =
  await importProduct<typeof import('../../src/http/json-reader.js')>('http/json-reader.js');
type Reader = InstanceType<typeof JsonReader>;

/** Larger than what is read at once. */
const LARGE = 200_000;

let reader: Reader;
beforeAll(() => {
  reader = new JsonReader();
});
afterAll(() => reader.close());

const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** @returns how often the event loop came round before the body was read */
async function turnsWhile(reading: Promise<unknown>): Promise<number> {
  let turns = 0;
  let isOver = false;
  const turn = (): void => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  await reading;
  isOver = true;
  return turns;
}

describe('a body', () => {
  it('that is small is read at once, and a large one beside the event loop', async () => {
    expect(await turnsWhile(reader.read(bytesOf({ a: 1 })))).toBe(0);
    expect(await turnsWhile(reader.read(bytesOf({ a: 'x'.repeat(LARGE) })))).toBeGreaterThan(0);
  });

  it.each([10, LARGE])('of %i characters and more is read the same', async (length) => {
    const padding = 'x'.repeat(length);
    expect(await reader.read(bytesOf({ padding, a: ['漢', null, 1.5] }))).toEqual({
      status: 'object',
      body: { padding, a: ['漢', null, 1.5] },
    });
    expect(await reader.read(Buffer.from(`{"a":"${padding}"`))).toMatchObject({ status: 'malformed' });
    expect(await reader.read(Buffer.from([0xff, ...Buffer.from(padding)]))).toMatchObject({
      status: 'malformed',
    });
    expect(await reader.read(bytesOf({ padding, a: '\0' }))).toEqual({
      status: 'refused',
      errors: [{ pointer: '/a', message: 'must not hold a NUL character' }],
    });
    expect(await reader.read(Buffer.from(`{"a":"${padding}","__proto__":1}`))).toMatchObject({
      status: 'refused',
    });
    expect(await reader.read(bytesOf([padding]))).toMatchObject({ status: 'refused' });
  });

  it('is the one that was sent, when many come at once', async () => {
    const read = await Promise.all(
      Array.from({ length: 20 }, (_, n) => reader.read(bytesOf({ n, padding: 'x'.repeat(LARGE) }))),
    );
    expect(read.map((document) => 'body' in document && document.body)).toMatchObject(
      Array.from({ length: 20 }, (_, n) => ({ n })),
    );
  });
});
