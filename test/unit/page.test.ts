import { describe, expect, it } from '@jest/globals';
import { decodeCursor, encodeCursor, isSequenceKey, isTimeKey, toPage } from '../../src/http/page.js';

const KEY = ['2026-11-22T12:43:00.123Z', '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b'] as const;

describe('a list’s cursor', () => {
  it('gives back the sort key that went into it', () => {
    expect(decodeCursor('sessions:a', encodeCursor('sessions:a', KEY), isTimeKey)).toEqual(KEY);
    expect(decodeCursor('messages:a:asc', encodeCursor('messages:a:asc', [7]), isSequenceKey)).toEqual([7]);
  });

  it('belongs to its list, filter and order', () => {
    const cursor = encodeCursor('messages:a:asc', [7]);
    for (const other of ['messages:a:desc', 'messages:b:asc', 'chatbots:a']) {
      expect(() => decodeCursor(other, cursor, isSequenceKey)).toThrow(
        expect.objectContaining({ code: 'invalid_cursor' }),
      );
    }
  });

  it.each([
    '',
    'abc',
    '-1',
    'null',
    Buffer.from('null').toString('base64url'),
    Buffer.from('{"a":1}').toString('base64url'),
    'x'.repeat(8_192),
  ])('is refused where it is none: %j', (text) => {
    expect(() => decodeCursor('messages:a:asc', text, isSequenceKey)).toThrow(
      expect.objectContaining({ code: 'invalid_cursor' }),
    );
  });

  it.each([
    [['2026-02-31T00:00:00.000Z', KEY[1]]],
    [['-271821-04-20T00:00:00.000Z', KEY[1]]],
    [['2026-11-22', KEY[1]]],
    [[KEY[0], "' or 1=1"]],
    [[KEY[0]]],
    [[1, 2]],
  ])('is refused where its key cannot be one: %j', (key) => {
    expect(() => decodeCursor('sessions:a', encodeCursor('sessions:a', key), isTimeKey)).toThrow(
      expect.objectContaining({ code: 'invalid_cursor' }),
    );
  });
});

describe('a page', () => {
  const page = (rows: number[], limit: number) =>
    toPage(
      rows,
      limit,
      'numbers',
      (row) => [row],
      (row) => ({ row }),
    );

  it('has a next cursor exactly when there is a row too many', () => {
    expect(page([1, 2], 2)).toEqual({ data: [{ row: 1 }, { row: 2 }], nextCursor: null });
    expect(page([], 2)).toEqual({ data: [], nextCursor: null });
    const { data, nextCursor } = page([1, 2, 3], 2);
    expect(data).toEqual([{ row: 1 }, { row: 2 }]);
    expect(decodeCursor('numbers', nextCursor ?? '', isSequenceKey)).toEqual([2]);
  });
});
