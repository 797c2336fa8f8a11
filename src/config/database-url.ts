import { readFileSync } from 'node:fs';
import { errorCode } from '../runtime/error-code.js';

/**
 * A URL of PostgreSQL, as libpq reads it: https://www.postgresql.org/docs/current/libpq-connect.html. What the driver
 * itself makes of such a URL differs from driver to driver, and leaves out most of what it says about TLS.
 */

const DEFAULT_PORT = 5432;

export const SslMode = {
  Disable: 'disable',
  Allow: 'allow',
  Prefer: 'prefer',
  Require: 'require',
  VerifyCa: 'verify-ca',
  VerifyFull: 'verify-full',
} as const;
export type SslMode = (typeof SslMode)[keyof typeof SslMode];

export const ChannelBinding = { Disable: 'disable', Prefer: 'prefer', Require: 'require' } as const;
export type ChannelBinding = (typeof ChannelBinding)[keyof typeof ChannelBinding];

/** Which servers will do: the product writes, so those that are only read are no choice. */
export const SessionAttributes = { Any: 'any', ReadWrite: 'read-write', Primary: 'primary' } as const;
export type SessionAttributes = (typeof SessionAttributes)[keyof typeof SessionAttributes];

export interface DatabaseHost {
  /** A name, an address, or the directory of a Unix domain socket, which begins with `/`. */
  host: string;
  port: number;
}

/** How a server is spoken to over TLS, but for its name. */
export interface DatabaseTls {
  mode: SslMode;
  /** TLS from the first byte on, which PostgreSQL 17 knows, instead of asking for it. */
  isDirect: boolean;
  /** PEM: who signs for the server. Undefined: those that Node.js trusts. */
  ca: string | undefined;
  /** PEM: the client's own certificate and key. */
  cert: string | undefined;
  key: string | undefined;
  passphrase: string | undefined;
  minVersion: TlsVersion | undefined;
  maxVersion: TlsVersion | undefined;
}

export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';

export interface DatabaseTarget {
  /** At least one, in the order in which they are tried. */
  hosts: DatabaseHost[];
  user: string | undefined;
  password: string | undefined;
  database: string | undefined;
  tls: DatabaseTls;
  channelBinding: ChannelBinding;
  sessionAttributes: SessionAttributes;
  /** Command-line options for the server's process, as `-c name=value`. */
  options: string | undefined;
  applicationName: string | undefined;
  /** How long one host may take until it is connected. Undefined: the caller's own time. */
  connectTimeoutMs: number | undefined;
  keepAlive: boolean;
  /** Silence before the first probe of a peer that may have vanished. Undefined: the caller's own time. */
  keepAliveIdleMs: number | undefined;
}

/** What is wrong with a URL of a database, each as the end of a sentence about it, without its values. */
export class DatabaseUrlError extends Error {
  override readonly name = 'DatabaseUrlError';

  constructor(readonly problems: string[]) {
    super(problems.join('; '));
  }
}

/** What each parameter means; the key is libpq's name, `schema` that of other tools. */
const PARAMETERS = [
  'host',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'sslpassword',
  'sslnegotiation',
  'ssl_min_protocol_version',
  'ssl_max_protocol_version',
  'gssencmode',
  'channel_binding',
  'target_session_attrs',
  'options',
  'schema',
  'application_name',
  'fallback_application_name',
  'client_encoding',
  'connect_timeout',
  'keepalives',
  'keepalives_idle',
] as const;
type Parameter = (typeof PARAMETERS)[number];

/** What drivers and other tools call their own, and what to say instead. */
const INSTEAD: Record<string, string> = {
  ssl: 'say sslmode=require, or sslmode=verify-full',
  sslaccept: 'say sslmode=require, or sslmode=verify-full',
  uselibpqcompat: 'leave it out: sslmode means what libpq says',
  pgbouncer: 'leave it out: poolers are a matter of DATABASE_PREPARED_STATEMENTS',
  connection_limit: 'say DATABASE_POOL_MAX',
  pool_timeout: 'leave it out',
  statement_cache_size: 'leave it out',
  search_path: 'say schema=…, or options=-c%20search_path%3D…',
};

const TLS_VERSIONS: readonly string[] = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];

/**
 * @throws {@link DatabaseUrlError} where it is no URL of a PostgreSQL, or says what cannot be done
 */
export function parseDatabaseUrl(url: string): DatabaseTarget {
  const problems: string[] = [];
  const parts = split(url);
  if (typeof parts === 'string') throw new DatabaseUrlError([parts]);
  const said = readParameters(parts.query, problems);

  const oneOf = <Value extends string>(name: Parameter, values: readonly Value[], fallback: Value): Value => {
    const value = said.get(name);
    if (value === undefined) return fallback;
    if ((values as readonly string[]).includes(value)) return value as Value;
    problems.push(`has a ${name} that is none of ${values.join(', ')}`);
    return fallback;
  };
  const wholeSeconds = (name: Parameter): number | undefined => {
    const value = said.get(name);
    if (value === undefined) return undefined;
    if (/^\s*-?\d{1,6}\s*$/.test(value)) return Number(value);
    problems.push(`has a ${name} that is no whole number of seconds`);
    return undefined;
  };
  const file = (name: Parameter): string | undefined => {
    const path = said.get(name);
    if (path === undefined || path === 'system') return undefined;
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      problems.push(`names a ${name} that cannot be read (${errorCode(error) ?? 'unknown error'})`);
      return undefined;
    }
  };

  const hosts = readHosts(said.get('host') ?? parts.hosts, said.get('port'), problems);
  const mode = oneOf('sslmode', Object.values(SslMode), defaultMode(said));
  const isDirect = oneOf('sslnegotiation', ['postgres', 'direct'], 'postgres') === 'direct';
  const hasRoot = said.has('sslrootcert');
  const isStrict = mode === SslMode.Require || mode === SslMode.VerifyCa || mode === SslMode.VerifyFull;
  if (mode === SslMode.VerifyCa && !hasRoot) {
    problems.push('says sslmode=verify-ca without the sslrootcert to verify by: or say sslmode=verify-full');
  }
  if (said.get('sslrootcert') === 'system' && mode !== SslMode.VerifyFull) {
    problems.push('says sslrootcert=system, with which sslmode can only be verify-full');
  }
  if (isDirect && !isStrict) {
    problems.push(
      'says sslnegotiation=direct, with which sslmode has to be require, verify-ca or verify-full',
    );
  }
  if (said.has('sslcert') !== said.has('sslkey')) {
    problems.push(`names a ${said.has('sslcert') ? 'sslcert without a sslkey' : 'sslkey without a sslcert'}`);
  }
  if (oneOf('gssencmode', ['disable', 'prefer', 'require'], 'disable') === 'require') {
    problems.push('says gssencmode=require: GSSAPI cannot be spoken here');
  }
  const encoding = said.get('client_encoding');
  if (encoding !== undefined && !/^(utf-?8|unicode|auto)$/i.test(encoding)) {
    problems.push('has a client_encoding that is not UTF8');
  }
  const attributes = oneOf(
    'target_session_attrs',
    ['any', 'read-write', 'primary', 'read-only', 'standby', 'prefer-standby'],
    'any',
  );
  const sessionAttributes = Object.values(SessionAttributes).find((value) => value === attributes);
  if (sessionAttributes === undefined) {
    problems.push(
      `says target_session_attrs=${attributes}, with a server that is only read: say read-write or primary`,
    );
  }
  const seconds = wholeSeconds('connect_timeout');
  const idleSeconds = wholeSeconds('keepalives_idle');
  const user = said.get('user') ?? parts.user;
  const database = said.get('dbname') ?? parts.database;
  for (const [name, value] of Object.entries({
    user,
    database,
    password: said.get('password') ?? parts.password,
  })) {
    if (value?.includes('\0')) problems.push(`has a ${name} with a NUL character`);
  }

  const target: DatabaseTarget = {
    hosts,
    user,
    password: said.get('password') ?? parts.password,
    database,
    tls: {
      // As libpq does it: with something to verify by, `require` verifies.
      mode: mode === SslMode.Require && hasRoot ? SslMode.VerifyCa : mode,
      isDirect,
      ca: file('sslrootcert'),
      cert: file('sslcert'),
      key: file('sslkey'),
      passphrase: said.get('sslpassword'),
      minVersion: tlsVersion('ssl_min_protocol_version', said, problems),
      maxVersion: tlsVersion('ssl_max_protocol_version', said, problems),
    },
    channelBinding: oneOf('channel_binding', Object.values(ChannelBinding), ChannelBinding.Prefer),
    sessionAttributes: sessionAttributes ?? SessionAttributes.Any,
    options: serverOptions(said),
    applicationName: said.get('application_name') ?? said.get('fallback_application_name'),
    // Zero and less are libpq's "for ever", which nothing waits here.
    connectTimeoutMs: seconds !== undefined && seconds > 0 ? seconds * 1_000 : undefined,
    keepAlive: oneOf('keepalives', ['0', '1'], '1') === '1',
    keepAliveIdleMs: idleSeconds !== undefined && idleSeconds > 0 ? idleSeconds * 1_000 : undefined,
  };
  if (target.channelBinding === ChannelBinding.Require && mode === SslMode.Disable) {
    problems.push('says channel_binding=require, which needs TLS, and sslmode=disable');
  }
  if (problems.length > 0) throw new DatabaseUrlError(problems);
  return target;
}

const NO_URL =
  'must be a URL that starts with postgres:// or postgresql://, special characters in it percent-encoded';

interface Parts {
  user: string | undefined;
  password: string | undefined;
  hosts: string;
  database: string | undefined;
  query: string;
}

/** @returns the parts of a URL, decoded but for its hosts and its parameters; a text: what is wrong with it */
function split(url: string): Parts | string {
  const scheme = /^postgres(?:ql)?:\/\//i.exec(url)?.[0];
  if (scheme === undefined) return NO_URL;
  const rest = url.slice(scheme.length);
  // A password that is written as it is may have a question mark.
  const queryAt = /\?(?:[^?@/]*$|(?=[a-z_]+=)[^?]*$)/i.exec(rest)?.index ?? rest.length;
  const address = rest.slice(0, queryAt);
  const [authority = '', ...path] = address.split('/');
  const at = authority.lastIndexOf('@');
  // A slash in a password would be read as the end of the hosts.
  if (at < 0 && authority.includes(':') && path.some((part) => part.includes('@'))) return NO_URL;
  const credentials = authority.slice(0, Math.max(at, 0));
  const hosts = authority.slice(at + 1);
  const database = path.join('/');
  const colon = credentials.indexOf(':');
  const nothing = (text: string): string | undefined => (text === '' ? undefined : decode(text));
  return {
    user: nothing(colon < 0 ? credentials : credentials.slice(0, colon)),
    password: colon < 0 ? undefined : nothing(credentials.slice(colon + 1)),
    hosts,
    database: nothing(database),
    query: rest.slice(queryAt + 1),
  };
}

/** Percent-decoded; a `%` that is none of it stays. */
function decode(text: string): string {
  return text.replaceAll(/(?:%[\da-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded);
    } catch {
      return encoded;
    }
  });
}

function readParameters(query: string, problems: string[]): Map<Parameter, string> {
  const said = new Map<Parameter, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decode(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : decode(pair.slice(equals + 1));
    const parameter = PARAMETERS.find((each) => each === name);
    if (parameter === undefined) {
      const instead = Object.hasOwn(INSTEAD, name) ? `: ${INSTEAD[name]}` : '';
      const shown = /^[\w.-]{1,40}$/.test(name) ? name : 'an unreadable one';
      problems.push(`has a parameter that is not known here, ${shown}${instead}`);
    } else if (said.has(parameter)) {
      problems.push(`says ${parameter} twice`);
    } else if (value !== '') {
      said.set(parameter, value); // as in libpq, an empty one is as if it were not there
    }
  }
  return said;
}

function readHosts(list: string, ports: string | undefined, problems: string[]): DatabaseHost[] {
  const parsed = list.split(',').map((text) => {
    const [, bracketed, plain = '', port] = /^(?:\[([^\]]*)\]|([^[\]]*?))(?::([^:\]/]*))?$/.exec(text) ?? [];
    const isAddress = bracketed === undefined && plain.includes(':');
    return isAddress ? { host: text, port: '' } : { host: decode(bracketed ?? plain), port: port ?? '' };
  });
  const portList = ports?.split(',') ?? [];
  if (portList.length > 1 && portList.length !== parsed.length) {
    problems.push(`has ${portList.length} ports for ${parsed.length} hosts`);
  }
  return parsed.map(({ host, port }, index) => {
    const text = portList.length > 0 ? (portList[portList.length === 1 ? 0 : index] ?? '') : port;
    const number = text === '' ? DEFAULT_PORT : Number(text);
    if (!/^\d*$/.test(text) || number < 1 || number > 65_535) {
      problems.push('has a port that is no number from 1 to 65535');
    }
    if (/[\s\0]/.test(host) && !host.startsWith('/')) problems.push('has a host with a blank in it');
    return { host: host === '' ? 'localhost' : host, port: number };
  });
}

function tlsVersion(
  name: 'ssl_min_protocol_version' | 'ssl_max_protocol_version',
  said: Map<Parameter, string>,
  problems: string[],
): TlsVersion | undefined {
  const value = said.get(name);
  if (value === undefined) return undefined;
  const version = TLS_VERSIONS.find((each) => each.toLowerCase() === value.toLowerCase());
  if (version === undefined) problems.push(`has a ${name} that is none of ${TLS_VERSIONS.join(', ')}`);
  return version as TlsVersion | undefined;
}

/** As libpq: `prefer`, but whoever trusts the system's certificates wants them verified. */
const defaultMode = (said: Map<Parameter, string>): SslMode =>
  said.get('sslrootcert') === 'system' ? SslMode.VerifyFull : SslMode.Prefer;

/** The options of the URL, and the schema of tools that name one, as the server's process takes them. */
function serverOptions(said: Map<Parameter, string>): string | undefined {
  const schema = said.get('schema');
  const path =
    schema === undefined
      ? undefined
      : // Quoted for the search path, then escaped for a command line, which ends at blanks.
        `-c search_path=${`"${schema.replaceAll('"', '""')}"`.replaceAll(/[\\\s]/g, '\\$&')}`;
  const all = [said.get('options'), path].filter((text) => text !== undefined);
  return all.length > 0 ? all.join(' ') : undefined;
}
