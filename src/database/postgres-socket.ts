import { EventEmitter } from 'node:events';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type PeerCertificate, TLSSocket } from 'node:tls';
import {
  ChannelBinding,
  type DatabaseHost,
  type DatabaseTarget,
  SessionAttributes,
  SslMode,
} from '../config/database-url.js';
import { NoAnswerError, within } from '../runtime/within.js';

/** The request for TLS: length 8, code 80877103. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 4, 210, 22, 47]);
/** Message type and length. */
const HEADER_BYTES = 5;
/** What a server says until it is ready is far shorter. */
const MAX_GREETING_BYTES = 64 * 1024;
/** Authentication by SASL, which alone can bind to a channel; its end, and that none is needed. */
const AUTH_SASL = 10;
const SCRAM_PLUS = 'SCRAM-SHA-256-PLUS';
/** `cannot_connect_now`: it starts or stops, and another host may not. */
const CANNOT_CONNECT_NOW = '57P03';

/** One way to reach one host. */
interface Route {
  host: DatabaseHost;
  isTls: boolean;
  /** Whether the connection goes on in plain text where the server has no TLS. */
  mayBePlain: boolean;
}

/** All ways that a URL allows, in the order in which they are tried. */
function routesOf(hosts: DatabaseHost[], mode: SslMode): Route[] {
  return hosts.flatMap((host) => {
    const plain = { host, isTls: false, mayBePlain: true };
    const tls = { host, isTls: true, mayBePlain: mode === SslMode.Prefer };
    if (host.host.startsWith('/') || mode === SslMode.Disable) return [plain]; // a socket of this machine has no TLS
    if (mode === SslMode.Allow) return [plain, tls];
    return mode === SslMode.Prefer ? [tls, plain] : [tls];
  });
}

/**
 * The socket of one connection to PostgreSQL, which the driver takes for a plain one. It tries the hosts and the modes of
 * TLS that the URL allows, in libpq's order, until a server lets the client in; the driver itself knows one host, and TLS
 * or none. What the driver sends first, the startup packet, is sent again where another way has to be tried.
 *
 * It is no stream of Node.js's, which would copy every packet once more, but has what `pg.Connection` uses of one.
 */
export class PostgresSocket extends EventEmitter {
  writable = true;
  private inner: Socket | null = null;
  private startup: Uint8Array | null = null;
  private routes: Route[] = [];
  private route: Route | null = null;
  /** What the server said while the socket still looks at it; null: no longer. */
  private greeting: Buffer | null = Buffer.alloc(0);
  private isFirstMessage = true;
  private isDestroyed = false;
  private corks = 0;
  private keepAlive: [enable: boolean, delayMs: number] | null = null;
  private isUnreferenced = false;

  /**
   * @param findHosts the hosts to try, in this order
   * @param hostTimeoutMs longest until a host is connected, TLS included
   */
  constructor(
    private readonly target: Pick<DatabaseTarget, 'tls' | 'channelBinding' | 'sessionAttributes'>,
    private readonly findHosts: () => Promise<DatabaseHost[]>,
    private readonly hostTimeoutMs: number,
  ) {
    super();
  }

  /** Emits `connect` once one of the hosts is; what the driver passes is ignored, since it knows one host. */
  connect(): this {
    this.findHosts().then(
      (hosts) => {
        this.routes = routesOf(hosts, this.target.tls.mode);
        return this.tryRoutes(null);
      },
      (error: Error) => this.destroy(error),
    );
    return this;
  }

  write(data: Uint8Array, done?: (error?: Error | null) => void): boolean {
    if (this.isFirstMessage) this.startup = data;
    return this.inner?.write(data, done) ?? false;
  }

  end(): this {
    this.writable = false;
    if (this.inner) this.inner.end();
    else this.destroy();
    return this;
  }

  destroy(error?: Error): this {
    if (this.isDestroyed) return this;
    this.isDestroyed = true;
    this.writable = false;
    const { inner } = this;
    if (inner) inner.destroy(error);
    else process.nextTick(() => this.close(error));
    return this;
  }

  setNoDelay(): this {
    return this; // every one is
  }

  setKeepAlive(enable = false, delayMs = 0): this {
    this.keepAlive = [enable, delayMs];
    this.inner?.setKeepAlive(enable, delayMs);
    return this;
  }

  ref(): this {
    this.isUnreferenced = false;
    this.inner?.ref();
    return this;
  }

  unref(): this {
    this.isUnreferenced = true;
    this.inner?.unref();
    return this;
  }

  cork(): void {
    this.corks++;
    this.inner?.cork();
  }

  uncork(): void {
    this.corks--;
    this.inner?.uncork();
  }

  /** Of the driver's channel binding, which asks for it where there is TLS. */
  getPeerCertificate(isDetailed: true): PeerCertificate {
    return (this.inner as TLSSocket).getPeerCertificate(isDetailed);
  }

  private get isEncrypted(): boolean {
    return this.inner instanceof TLSSocket;
  }

  get remotePort(): number | undefined {
    return this.inner?.remotePort;
  }

  /** Takes the next route on which a server answers; the error of the last one where none is left. */
  private async tryRoutes(failure: Error | null): Promise<void> {
    for (let last = failure; !this.isDestroyed;) {
      const route = this.routes.shift();
      if (!route) {
        this.isDestroyed = true;
        this.close(last ?? new UnreachableError('the URL of the database names no host'));
        return;
      }
      try {
        const socket = await this.open(route);
        if (this.isDestroyed) {
          socket.destroy();
          return this.close();
        }
        this.take(route, socket);
        return;
      } catch (error) {
        last = error as Error;
        // Who cannot be reached at all cannot be reached the other way either.
        if (!(last instanceof TlsError)) while (this.routes[0]?.host === route.host) this.routes.shift();
      }
    }
    this.close();
  }

  private async open(route: Route): Promise<Socket> {
    const {
      host: { host, port },
    } = route;
    const raw = connectTcp(
      host.startsWith('/') ? { path: `${host}/.s.PGSQL.${port}` } : { host, port, noDelay: true },
    );
    this.inner = raw; // so that it can be destroyed meanwhile
    try {
      return await within(this.hostTimeoutMs, this.secure(route, raw));
    } catch (error) {
      raw.destroy();
      throw error instanceof NoAnswerError ? new UnreachableError(error.message) : error;
    } finally {
      if (this.inner === raw) this.inner = null;
    }
  }

  private async secure(route: Route, raw: Socket): Promise<Socket> {
    await settled(raw, 'connect');
    if (!route.isTls) return raw;
    if (!this.target.tls.isDirect) {
      raw.write(SSL_REQUEST);
      const answer = (await settled(raw, 'data')) as Buffer;
      raw.pause();
      // More would have come from somebody in between, before anything is encrypted.
      if (answer.length > 1) throw new TlsError('the server sent more than an answer to the request for TLS');
      if (answer.toString('latin1') !== 'S') {
        if (route.mayBePlain && answer.toString('latin1') === 'N') return raw;
        throw new TlsError('the server does not support TLS, which the URL of the database asks for');
      }
    }
    const secured = connectTls({ ...this.tlsOptions(route.host.host), socket: raw });
    await settled(secured, 'secureConnect').catch((error: unknown) => {
      secured.destroy();
      throw new TlsError((error as Error).message, { cause: error });
    });
    return secured;
  }

  private tlsOptions(host: string): ConnectionOptions {
    const { mode, isDirect, ca, cert, key, passphrase, minVersion, maxVersion } = this.target.tls;
    const isVerified = mode === SslMode.VerifyCa || mode === SslMode.VerifyFull;
    return {
      host, // of which the certificate has to be, where a name is verified
      ...(isIP(host) === 0 && { servername: host }),
      ...(isDirect && { ALPNProtocols: ['postgresql'] }),
      ...(ca !== undefined && { ca }),
      ...(cert !== undefined && { cert, key, passphrase }),
      ...(minVersion && { minVersion }),
      ...(maxVersion && { maxVersion }),
      rejectUnauthorized: isVerified,
      ...(mode !== SslMode.VerifyFull && { checkServerIdentity: () => undefined }),
    };
  }

  /** From here on the socket is this one, as long as its server lets the client in. */
  private take(route: Route, socket: Socket): void {
    this.route = route;
    this.inner = socket;
    if (this.keepAlive) socket.setKeepAlive(...this.keepAlive);
    if (this.isUnreferenced) socket.unref();
    for (let i = 0; i < this.corks; i++) socket.cork();
    const ifCurrent =
      <Args extends unknown[]>(listener: (...args: Args) => void) =>
      (...args: Args) => {
        if (this.inner === socket) listener(...args);
      };
    let failure: Error | undefined;
    socket.on(
      'data',
      ifCurrent((data: Buffer) => this.receive(data)),
    );
    socket.on(
      'end',
      ifCurrent(() => this.emit('end')),
    );
    socket.on(
      'drain',
      ifCurrent(() => this.emit('drain')),
    );
    socket.on('error', (error) => {
      failure = error;
    });
    socket.once(
      'close',
      ifCurrent(() => {
        // Who was let in neither by TLS nor in plain text may be the other way, or by another host.
        if (this.isFirstMessage && !this.isDestroyed && this.routes.length > 0) this.leave(failure);
        else this.close(failure);
      }),
    );
    socket.resume();
    if (this.startup) socket.write(this.startup);
    else this.emit('connect');
  }

  /** Leaves this host for the next route. */
  private leave(failure: Error | undefined): void {
    this.inner?.destroy();
    this.inner = null;
    this.greeting = Buffer.alloc(0);
    void this.tryRoutes(failure ?? new UnreachableError('the server closed the connection'));
  }

  private receive(data: Buffer): void {
    if (this.greeting) {
      const problem = this.look(data);
      if (problem === 'retry') return;
      if (problem) {
        this.destroy(problem);
        return;
      }
    }
    this.emit('data', data);
  }

  /**
   * Reads what the server says until it is ready for statements.
   *
   * @returns an error: the connection is no good; `retry`: another route is being tried instead
   */
  private look(data: Buffer): Error | 'retry' | null {
    let rest = Buffer.concat([this.greeting!, data]);
    while (rest.length >= HEADER_BYTES) {
      const length = 1 + rest.readUInt32BE(1);
      if (length > MAX_GREETING_BYTES)
        return new UnreachableError('the server does not speak as PostgreSQL does');
      if (rest.length < length) break;
      const [type, body] = [String.fromCharCode(rest[0]!), rest.subarray(HEADER_BYTES, length)];
      rest = rest.subarray(length);
      if (this.isFirstMessage) {
        if (type === 'E' && this.hasAnotherWay(body)) {
          this.leave(new UnreachableError(fieldOf(body, 'M')));
          return 'retry';
        }
        this.isFirstMessage = false;
        const problem = this.bindingProblem(type, body);
        if (problem) return problem;
      }
      if (type === 'S') {
        const problem = this.attributeProblem(body);
        if (problem) return problem;
      }
      if (type === 'Z' || type === 'E') {
        this.greeting = null;
        this.startup = null;
        return null;
      }
    }
    this.greeting = rest;
    return null;
  }

  /**
   * Whether a refusal is one that libpq takes for a reason to go on: who is refused in plain text may be let in by TLS, and
   * the other way round; and where a server starts or stops, another host may let him in.
   */
  private hasAnotherWay(body: Buffer): boolean {
    const isSameHost = (): boolean =>
      this.routes[0] !== undefined && this.routes[0].host === this.route?.host;
    if (fieldOf(body, 'C') === CANNOT_CONNECT_NOW) {
      while (isSameHost()) this.routes.shift();
      return this.routes.length > 0;
    }
    return isSameHost() && this.routes[0]!.isTls !== this.isEncrypted;
  }

  private bindingProblem(type: string, body: Buffer): Error | null {
    if (this.target.channelBinding !== ChannelBinding.Require || type !== 'R') return null;
    const isOffered =
      body.readUInt32BE(0) === AUTH_SASL && body.toString('latin1', 4).split('\0').includes(SCRAM_PLUS);
    return isOffered && this.isEncrypted
      ? null
      : new UnreachableError('the server offers no channel binding, which the URL of the database asks for');
  }

  private attributeProblem(body: Buffer): Error | null {
    const { sessionAttributes } = this.target;
    if (sessionAttributes === SessionAttributes.Any) return null;
    const [name, value] = body.toString('utf8').split('\0');
    const isStandby = name === 'in_hot_standby' && value === 'on';
    const isReadOnly =
      name === 'default_transaction_read_only' &&
      value === 'on' &&
      sessionAttributes === SessionAttributes.ReadWrite;
    return isStandby || isReadOnly ? new ReadOnlyServerError() : null;
  }

  private close(error?: Error): void {
    this.writable = false;
    if (error) this.emit('error', error);
    this.emit('close', error !== undefined);
  }
}

/** No way to a server; the code is PostgreSQL's `sqlclient_unable_to_establish_sqlconnection`. */
class UnreachableError extends Error {
  override readonly name: string = 'UnreachableError';
  readonly code = '08001';
}

/** A server that is not what `target_session_attrs` of the URL asks for. */
class ReadOnlyServerError extends UnreachableError {
  override readonly name = 'ReadOnlyServerError';

  constructor() {
    super('the server can only be read, and target_session_attrs asks for one that can be written');
  }
}

/** A failure of TLS, without which the host may be reached all the same. */
class TlsError extends UnreachableError {
  override readonly name = 'TlsError';
}

/** A field of an ErrorResponse, by its letter; empty where there is none. */
function fieldOf(body: Buffer, letter: string): string {
  const field = body
    .toString('utf8')
    .split('\0')
    .find((each) => each.startsWith(letter));
  return field?.slice(1) ?? '';
}

/** The next event of this name; rejects on an error, or where the socket closes without one. */
function settled(socket: Socket, event: 'connect' | 'data' | 'secureConnect'): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      socket.off(event, onEvent).off('error', onError).off('close', onClose);
      socket.on('error', () => undefined); // whoever takes it over listens for itself
    };
    const onEvent = (value: unknown): void => {
      done();
      resolve(value);
    };
    const onError = (error: Error): void => {
      done();
      reject(error);
    };
    const onClose = (): void => {
      done();
      reject(new UnreachableError('the server closed the connection before it was made'));
    };
    socket.once(event, onEvent).once('error', onError).once('close', onClose);
  });
}
