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

/** As for a route that says nothing of its body. */
const read = (bytes: Buffer) => reader.read(bytes, 1_000);

const bytesOf = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

/** @returns whether the body was read before the event loop came round */
async function isReadAtOnce(reading: Promise<unknown>): Promise<boolean> {
  let isRead = false;
  void reading.then(() => (isRead = true));
  for (let n = 0; n < 100; n++) await Promise.resolve();
  const wasAtOnce = isRead;
  await reading;
  return wasAtOnce;
}

describe('a body', () => {
  it('that is small is read at once, and a large one beside the event loop', async () => {
    expect(await isReadAtOnce(read(bytesOf({ a: 1 })))).toBe(true);
    expect(await isReadAtOnce(read(bytesOf({ a: 'x'.repeat(LARGE) })))).toBe(false);
  });

  it('that is large waits for those before it, and is refused where too much waits', async () => {
    const large = bytesOf({ a: 'x'.repeat(1_000_000) });
    const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => read(large)));

    const refused = outcomes.filter(({ status }) => status === 'rejected');
    expect(refused.length).toBeGreaterThan(20);
    expect(refused[0]).toMatchObject({ reason: { code: 'service_unavailable' } });
    expect(outcomes.length - refused.length).toBeGreaterThan(10);
    expect(await read(large)).toMatchObject({ status: 'object' });
  });

  it.each([10, LARGE])('of %i characters and more is read the same', async (length) => {
    const padding = 'x'.repeat(length);
    expect(await read(bytesOf({ padding, a: ['漢', null, 1.5] }))).toEqual({
      status: 'object',
      body: { padding, a: ['漢', null, 1.5] },
    });
    expect(await read(Buffer.from(`{"a":"${padding}"`))).toMatchObject({ status: 'malformed' });
    expect(await read(Buffer.from([0xff, ...Buffer.from(padding)]))).toMatchObject({
      status: 'malformed',
    });
    expect(await read(bytesOf({ padding, a: '\0' }))).toEqual({
      status: 'refused',
      errors: [{ pointer: '/a', message: 'must not hold a NUL character' }],
    });
    expect(await read(Buffer.from(`{"a":"${padding}","__proto__":1}`))).toMatchObject({
      status: 'refused',
    });
    expect(await read(bytesOf([padding]))).toMatchObject({ status: 'refused' });
  });

  it('is the one that was sent, when many come at once', async () => {
    const documents = await Promise.all(
      Array.from({ length: 20 }, (_, n) => read(bytesOf({ n, padding: 'x'.repeat(LARGE) }))),
    );
    expect(documents.map((document) => 'body' in document && document.body)).toMatchObject(
      Array.from({ length: 20 }, (_, n) => ({ n })),
    );
  });
});
