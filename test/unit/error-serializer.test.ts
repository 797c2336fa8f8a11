import { describe, expect, it } from '@jest/globals';
import { prettyFactory } from 'pino-pretty';
import { createErrorSerializer } from '../../src/logging/error-serializer.js';
import { redactUrl, withoutControls } from '../../src/logging/logging.module.js';

const CANARY = 'what the guest wrote';
const serialize = createErrorSerializer(['configured-secret', undefined]);

describe('an error in the log', () => {
  it('keeps type, code, constraint and stack frames of a database error, and none of its texts', () => {
    const cause = Object.assign(new Error(`value too long: ${CANARY}`), {
      code: '22001',
      constraint: 'names',
    });
    const error = Object.assign(
      new Error(`insert into messages values ('${CANARY}') - value too long`, { cause }),
      {
        code: '22001',
        query: CANARY,
      },
    );

    const logged = serialize(error);

    expect(JSON.stringify(logged)).not.toContain(CANARY);
    expect(logged).toMatchObject({ type: 'Error', code: '22001', cause: { constraint: 'names' } });
    expect(logged.stack).toMatch(/^\s+at /);
  });

  it.each([
    ['a configured key', 'refused: configured-secret', /configured-secret/],
    ['a provider’s key', 'Incorrect API key provided: sk-proj-abcdefghijk123', /sk-proj/],
    ['a bearer token', 'sent Bearer abc.def.ghi', /abc\.def/],
    ['a session token', 'token ast_abcdefghijklmnopqrstuvwxyz was bad', /ast_abc/],
    ['a password in a URL', 'cannot reach postgres://user:pass@host/db', /user:pass/],
  ])('does not hold %s', (_what, message, secret) => {
    const { message: logged } = serialize(new Error(message));
    expect(logged).not.toMatch(secret);
    expect(logged).toContain('[redacted]');
  });

  it('follows causes, but not for ever', () => {
    const loop = new Error('a');
    loop.cause = loop;
    expect(JSON.stringify(serialize(loop)).length).toBeLessThan(20_000);
  });

  it.each([undefined, null, 'text', 7])('may be thrown as anything: %j', (thrown) => {
    expect(serialize(thrown).message).toBe(String(thrown));
  });
});

describe('a line of the log', () => {
  const HOSTILE = 'a\u001b]52;c;Zm9v\u0007\u009b31m\u202e\u2028\u007f\bb';

  it('holds nothing that steers a terminal, whatever somebody called a model, and stays JSON', () => {
    const line = withoutControls(
      JSON.stringify({ model: HOSTILE, path: 'C:\\\\u001b', text: 'a\nb "ü" 漢' }),
    );

    // oxlint-disable-next-line no-control-regex
    expect(line).not.toMatch(/[\0-\x1f\x7f-\x9f\u2028\u202e]|[^\\]\\u00[01]/);
    expect(JSON.parse(line)).toEqual({
      model: 'a\ufffd]52;c;Zm9v\ufffd\ufffd31m\ufffd\ufffd\ufffd\ufffdb',
      path: 'C:\\\\u001b',
      text: 'a\nb "ü" 漢',
    });
  });

  it('is so in a terminal too', () => {
    const prettify = prettyFactory({ singleLine: true, colorize: false });
    const line = JSON.stringify({
      level: 30,
      model: HOSTILE,
      err: { type: 'Error', message: HOSTILE },
      msg: HOSTILE,
    });

    // oxlint-disable-next-line no-control-regex
    expect(prettify(withoutControls(line)).trimEnd()).not.toMatch(/[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]/);
  });
});

describe('a URL in the log', () => {
  it('shows cursors, and of other parameters only the names', () => {
    expect(redactUrl('/v1/sessions/x/events?token=aet_secret&after=abc-1')).toBe(
      '/v1/sessions/x/events?token=[redacted]&after=abc-1',
    );
    expect(redactUrl('/v1/sessions/x/events?TOKEN=aet_secret')).not.toContain('aet_secret');
    expect(redactUrl('/health/live')).toBe('/health/live');
  });
});
