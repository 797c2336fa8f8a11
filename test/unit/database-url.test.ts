import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { DatabaseUrlError, parseDatabaseUrl } from '../../src/config/database-url.js';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'assistly-url-'));
  for (const name of ['ca', 'cert', 'key']) writeFileSync(join(directory, `${name}.pem`), `the ${name}`);
});
afterAll(() => rmSync(directory, { recursive: true }));
const inFiles = (url: string): string => url.replaceAll('DIR', directory);

function problemsOf(url: string): string[] {
  try {
    parseDatabaseUrl(inFiles(url));
  } catch (error) {
    if (error instanceof DatabaseUrlError) return error.problems;
    throw error;
  }
  return [];
}

describe('the hosts of a database’s URL', () => {
  it.each([
    ['postgres://', ['localhost:5432']],
    ['postgresql:///db', ['localhost:5432']],
    ['POSTGRES://db.example', ['db.example:5432']],
    ['postgres://db.example:6000/x', ['db.example:6000']],
    ['postgres://[::1]/x', ['::1:5432']],
    ['postgres://[2001:db8::7]:6000', ['2001:db8::7:6000']],
    ['postgres://one:1,two:2,[::1]:3/x', ['one:1', 'two:2', '::1:3']],
    ['postgres://one,two:2', ['one:5432', 'two:2']],
    ['postgres:///x?host=one,two&port=1,2', ['one:1', 'two:2']],
    ['postgres:///x?host=one,two&port=7', ['one:7', 'two:7']],
    ['postgres://ignored/x?host=::1', ['::1:5432']],
    ['postgres:///x?host=/var/run/postgresql', ['/var/run/postgresql:5432']],
    ['postgres://me@/x?host=/tmp&port=6000', ['/tmp:6000']],
    ['postgres://%2Fvar%2Frun%2Fpostgresql/x', ['/var/run/postgresql:5432']],
    ['postgres://me:secret@%2Ftmp:6000/x', ['/tmp:6000']],
    ['postgres://one,/x', ['one:5432', 'localhost:5432']],
  ])('of %s are %j', (url, expected) => {
    expect(parseDatabaseUrl(url).hosts.map(({ host, port }) => `${host}:${port}`)).toEqual(expected);
  });
});

describe('user, password and database of a URL', () => {
  it.each([
    ['postgres://me@h/d', 'me', undefined, 'd'],
    ['postgres://me:@h/d', 'me', undefined, 'd'],
    ['postgres://me:secret@h', 'me', 'secret', undefined],
    ['postgres://m%40e:s%3Ac%2Fr%3Fe%23t%25@h/d%2Fb', 'm@e', 's:c/r?e#t%', 'd/b'],
    ['postgres://me:a@b@h/d', 'me', 'a@b', 'd'],
    ['postgres://me:a:b@h/d', 'me', 'a:b', 'd'],
    ['postgres://me:a#b@h/d', 'me', 'a#b', 'd'],
    ['postgres://me:a?b@h/d', 'me', 'a?b', 'd'],
    ['postgres://me:a?b@h/d?sslmode=disable', 'me', 'a?b', 'd'],
    ['postgres://me:50%@h/d', 'me', '50%', 'd'],
    ['postgres://me:%zz%4@h/d', 'me', '%zz%4', 'd'],
    ['postgres://me:a+b c@h/d', 'me', 'a+b c', 'd'],
    ['postgres://me:%C3%A4%F0%9F%98%80ß@h/d', 'me', 'ä😀ß', 'd'],
    ['postgres://me:%ff@h/d', 'me', '%ff', 'd'],
    ['postgres://me:\'"\\$`@h/d', 'me', '\'"\\$`', 'd'],
    ['postgres://h/d?user=me&password=a%26b&dbname=e', 'me', 'a&b', 'e'],
    ['postgres://h/d?user=me&password=a+b=c', 'me', 'a+b=c', 'd'],
  ])('of %s', (url, user, password, database) => {
    expect(parseDatabaseUrl(url)).toMatchObject({ user, password, database, hosts: [{ host: 'h' }] });
  });
});

describe('TLS of a URL', () => {
  it.each([
    ['', 'prefer'],
    ['?sslmode=', 'prefer'],
    ['?sslmode=disable', 'disable'],
    ['?sslmode=allow', 'allow'],
    ['?sslmode=prefer', 'prefer'],
    ['?sslmode=require', 'require'],
    ['?sslmode=require&sslrootcert=DIR/ca.pem', 'verify-ca'],
    ['?sslmode=verify-ca&sslrootcert=DIR/ca.pem', 'verify-ca'],
    ['?sslmode=verify-full', 'verify-full'],
    ['?sslmode=verify-full&sslrootcert=system', 'verify-full'],
    ['?sslrootcert=system', 'verify-full'],
  ])('of %s is %s', (query, mode) => {
    expect(parseDatabaseUrl(inFiles(`postgres://h/d${query}`)).tls).toMatchObject({ mode });
  });

  it('reads the files that it names', () => {
    const url =
      'postgres://h/d?sslmode=verify-full&sslrootcert=DIR/ca.pem&sslcert=DIR/cert.pem&sslkey=DIR/key.pem&sslpassword=p%20w&sslnegotiation=direct&ssl_min_protocol_version=tlsv1.3';
    expect(parseDatabaseUrl(inFiles(url)).tls).toEqual({
      mode: 'verify-full',
      isDirect: true,
      ca: 'the ca',
      cert: 'the cert',
      key: 'the key',
      passphrase: 'p w',
      minVersion: 'TLSv1.3',
      maxVersion: undefined,
    });
  });
});

describe('the parameters of a URL', () => {
  it('are as they are said', () => {
    const url =
      'postgresql://h/d?application_name=a%20b&connect_timeout=7&keepalives=0&keepalives_idle=30&channel_binding=require&target_session_attrs=read-write&options=-c%20geqo%3Doff';
    expect(parseDatabaseUrl(url)).toMatchObject({
      applicationName: 'a b',
      connectTimeoutMs: 7_000,
      keepAlive: false,
      keepAliveIdleMs: 30_000,
      channelBinding: 'require',
      sessionAttributes: 'read-write',
      options: '-c geqo=off',
    });
  });

  it('have defaults that are libpq’s, but that nothing waits for ever', () => {
    expect(parseDatabaseUrl('postgres://h/d?connect_timeout=0')).toMatchObject({
      applicationName: undefined,
      connectTimeoutMs: undefined,
      keepAlive: true,
      channelBinding: 'prefer',
      sessionAttributes: 'any',
      options: undefined,
    });
  });

  it.each([
    ['schema=app', '-c search_path="app"'],
    ['schema=My%20App', '-c search_path="My\\ App"'],
    ['schema=a%22b%5Cc', '-c search_path="a""b\\\\c"'],
    ['options=-c%20geqo%3Doff&schema=app', '-c geqo=off -c search_path="app"'],
  ])('of other tools name a schema: %s', (query, options) => {
    expect(parseDatabaseUrl(`postgres://h/d?${query}`).options).toBe(options);
  });
});

const NO_URL =
  'must be a URL that starts with postgres:// or postgresql://, special characters in it percent-encoded';

describe('what a URL cannot say', () => {
  it.each([
    ['mysql://h/d', NO_URL],
    ['h/d', NO_URL],
    ['postgres://me:a/b@h/d', NO_URL],
    ['postgres://h:x/d', 'has a port that is no number from 1 to 65535'],
    ['postgres://h:0/d', 'has a port that is no number from 1 to 65535'],
    ['postgres://h:65536/d', 'has a port that is no number from 1 to 65535'],
    ['postgres://h/d?host=a,b,c&port=1,2', 'has 2 ports for 3 hosts'],
    ['postgres://a%20b/d', 'has a host with a blank in it'],
    ['postgres://me:%00@h/d', 'has a password with a NUL character'],
    [
      'postgres://h/d?sslmode=on',
      'has a sslmode that is none of disable, allow, prefer, require, verify-ca, verify-full',
    ],
    [
      'postgres://h/d?sslmode=REQUIRE',
      'has a sslmode that is none of disable, allow, prefer, require, verify-ca, verify-full',
    ],
    ['postgres://h/d?sslmode=require&sslmode=disable', 'says sslmode twice'],
    [
      'postgres://h/d?sslmode=verify-ca',
      'says sslmode=verify-ca without the sslrootcert to verify by: or say sslmode=verify-full',
    ],
    ['postgres://h/d?sslrootcert=/none/ca.pem', 'names a sslrootcert that cannot be read (ENOENT)'],
    ['postgres://h/d?sslcert=DIR/cert.pem', 'names a sslcert without a sslkey'],
    ['postgres://h/d?sslkey=DIR/key.pem', 'names a sslkey without a sslcert'],
    [
      'postgres://h/d?sslnegotiation=direct',
      'says sslnegotiation=direct, with which sslmode has to be require, verify-ca or verify-full',
    ],
    [
      'postgres://h/d?sslmode=require&sslrootcert=system',
      'says sslrootcert=system, with which sslmode can only be verify-full',
    ],
    [
      'postgres://h/d?ssl_min_protocol_version=SSLv3',
      'has a ssl_min_protocol_version that is none of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3',
    ],
    ['postgres://h/d?channel_binding=yes', 'has a channel_binding that is none of disable, prefer, require'],
    [
      'postgres://h/d?channel_binding=require&sslmode=disable',
      'says channel_binding=require, which needs TLS, and sslmode=disable',
    ],
    [
      'postgres://h/d?target_session_attrs=standby',
      'says target_session_attrs=standby, with a server that is only read: say read-write or primary',
    ],
    ['postgres://h/d?connect_timeout=soon', 'has a connect_timeout that is no whole number of seconds'],
    ['postgres://h/d?keepalives=yes', 'has a keepalives that is none of 0, 1'],
    ['postgres://h/d?gssencmode=require', 'says gssencmode=require: GSSAPI cannot be spoken here'],
    ['postgres://h/d?client_encoding=latin1', 'has a client_encoding that is not UTF8'],
    ['postgres://h/d?foo=bar', 'has a parameter that is not known here, foo'],
    ['postgres://h/d?SSLMODE=require', 'has a parameter that is not known here, SSLMODE'],
    [
      'postgres://h/d?ssl=true',
      'has a parameter that is not known here, ssl: say sslmode=require, or sslmode=verify-full',
    ],
    [
      'postgres://h/d?connection_limit=5',
      'has a parameter that is not known here, connection_limit: say DATABASE_POOL_MAX',
    ],
    ['postgres://h/d?__proto__=1', 'has a parameter that is not known here, __proto__'],
    ['postgres://h/d?a%20b=secret', 'has a parameter that is not known here, an unreadable one'],
  ])('%s is refused by name', (url, problem) => {
    expect(problemsOf(url)).toEqual([problem]);
  });

  it('is all said at once, without a value', () => {
    const problems = problemsOf('postgres://me:hunter2@h/d?sslmode=hunter3&foo=hunter4&keepalives=hunter5');
    expect(problems).toHaveLength(3);
    expect(problems.join()).not.toContain('hunter');
  });
});
