import { describe, expect, it } from '@jest/globals';
import { cpuMsOf } from '../support/cpu-time.js';
import { redactUrl } from '../../src/logging/logging.module.js';
import { holdsCredential, withoutCredentials } from '../../src/runtime/credentials.js';

/** What looks like a credential is in no line of the log, wherever somebody put it. */

const CREDENTIALS = [
  `ast_${'A'.repeat(43)}`,
  `aet_01a203eb-82fd-76a1-a5fa-4018ce01bf49.1790000000.${'B'.repeat(43)}`,
  'sk-proj-abcdefghijkl',
  'sk_live_abcdefghijkl',
  'pk_test_abcdefghijkl',
  `whsec_${'c'.repeat(32)}`,
  `ak_${'d'.repeat(20)}`,
  `mt_${'e'.repeat(20)}`,
  `oat_${'f'.repeat(20)}`,
  `eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyXzEifQ.${'g'.repeat(20)}`,
];

describe.each(CREDENTIALS)('%s', (credential) => {
  it.each([
    ['a segment of the path', (text: string) => `/v1/sessions/${text}/messages`],
    ['the end of a segment', (text: string) => `/v1/sessions/x-${text}`],
    ['a shown parameter', (text: string) => `/v1/chatbots?cursor=${text}`],
    ['any parameter', (text: string) => `/v1/chatbots?token=${text}`],
    ['the name of a parameter', (text: string) => `/v1/chatbots?${text}=1`],
    ['a parameter twice', (text: string) => `/v1/chatbots?after=1&after=${text}`],
    ['after a Bearer', (text: string) => `/v1/x/Bearer%20${text}`],
  ])('is in no URL that is logged: %s', (_, urlWith) => {
    for (const written of [
      credential,
      encodeURIComponent(credential),
      encodeURIComponent(encodeURIComponent(credential)),
      [...credential].map((letter) => `%${letter.charCodeAt(0).toString(16)}`).join(''),
    ]) {
      const logged = redactUrl(urlWith(written));
      expect(decodeURIComponent(decodeURIComponent(logged))).not.toContain(credential.slice(0, 12));
      expect(logged).toContain('[redacted]');
    }
  });

  it('is in no text that is logged', () => {
    expect(withoutCredentials(`refused ${credential}, said "${credential}"`)).not.toContain(
      credential.slice(0, 12),
    );
  });
});

it('what is none stays as it is', () => {
  for (const text of [
    '01a203eb-82fd-76a1-a5fa-4018ce01bf49',
    'risk-management-plan-2026',
    'mtb_routes',
    'basic',
    '1790000000.abc-7',
    '%zz',
    '',
  ]) {
    expect([text, holdsCredential(text)]).toEqual([text, false]);
  }
  expect(redactUrl('/v1/chatbots?limit=5&cursor=abc&order=asc')).toBe(
    '/v1/chatbots?limit=5&cursor=abc&order=asc',
  );
  expect(withoutCredentials('postgres://user:secret@host/db')).toBe('postgres://[redacted]@host/db');
});

it.each([
  ['x'],
  ['sk-'],
  ['://'],
  ['://x'],
  ['Bearer '],
  ['eyJ'],
  ['eyJ.'],
  ['a.'],
  ['%41'],
  ['%25'],
  ['@'],
  ['/'],
])('costs time linear in the length of a run of %s', async (unit) => {
  const leastFor = async (length: number): Promise<number> => {
    const text = unit.repeat(length / unit.length);
    let leastMs = Infinity;
    for (let n = 0; n < 5; n++) leastMs = Math.min(leastMs, await cpuMsOf(() => holdsCredential(text)));
    return leastMs;
  };
  await leastFor(4_000);

  // Quadratic time would grow by the growth once more.
  expect(await leastFor(128_000)).toBeLessThan(Math.max(await leastFor(16_000), 1) * 8 * 4);
});
