import pg from 'pg';
import { PreparedStatements } from '../config/setting-types.js';
import { forgetStatements, isStaleStatement, statementName } from './prepared-statements.js';

/**
 * No statement depends on a default that somebody has given the database or the role (`ALTER DATABASE … SET`): neither what
 * it means, nor how its values are written, nor where its tables are, nor for how long it may run or wait.
 *
 * On a connection to PostgreSQL itself all of that is set once, at the start. Where a pooler stands between, the next
 * statement may run on another connection, which others use too: there it is set for each transaction alone, sent together
 * with its beginning; a statement outside of one gets a transaction of its own, all of it in one packet.
 */

/** Longest times of what a connection does, in milliseconds; 0: no limit. */
export interface StatementLimits {
  statement_timeout: number;
  lock_timeout: number;
  idle_in_transaction_session_timeout: number;
}

export interface IndependentClientConfig extends pg.ClientConfig {
  /** Default: none. */
  limits?: Partial<StatementLimits>;
  /** Default: off. */
  preparedStatements?: PreparedStatements;
}

/** What the statements are written for. A database or a role may have other defaults (`ALTER ROLE … SET`). */
const SETTINGS = {
  DateStyle: 'ISO',
  TimeZone: 'UTC',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  exit_on_error: 'off',
};

/** Of a connection that is nobody else's, beside {@link SETTINGS}; of others, each `begin` says it. */
const TRANSACTION_DEFAULTS = {
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  idle_session_timeout: '0',
};

/** From this version on a transaction can be limited as a whole, which a role's default must not do. */
const VERSION_WITH_TRANSACTION_TIMEOUT = 17;

/**
 * The tables may stand in any schema: the first of the search path when they were made. A search path that has changed
 * since then does not hide them, unless the connection itself asks for another schema: then it is for other tables.
 */
const FIND_TABLES = `
  select sessions.schema, sessions.schema = any (current_schemas(false)) as is_visible
  from (
    select namespace.nspname as schema, class.oid, class.relowner, class.relnamespace
    from pg_class class join pg_namespace namespace on namespace.oid = class.relnamespace
    where class.relname = 'chat_sessions' and class.relkind in ('r', 'p')
  ) sessions
  where exists (
      select from pg_class other
      where other.relname = 'chatbot_characteristics' and other.relnamespace = sessions.relnamespace
    ) and (
      sessions.schema = any (current_schemas(false))
      or (
        (select source from pg_settings where name = 'search_path') <> 'client'
        and exists (
          select from pg_roles role
          where role.rolname = current_user and (
            role.oid = sessions.relowner
            or not role.rolsuper and has_table_privilege(sessions.oid, 'insert')
          )
        )
      )
    )
  order by array_position(current_schemas(false), sessions.schema)`;

const LOOK_AROUND = `
  select pg_backend_pid() as pid, pg_is_in_recovery() as is_standby, current_schema() as schema,
    (select source = 'client' from pg_settings where name = 'search_path') as is_asked_for,
    coalesce((select jsonb_agg(to_jsonb(found)) from (${FIND_TABLES}) found), '[]') as found`;

interface Surroundings {
  pid: number;
  is_standby: boolean;
  /** The schema in which a table would be made; null where the search path names none that exists. */
  schema: string | null;
  /** Whether the connection itself has asked for its search path. */
  is_asked_for: boolean;
  /** Schemas with the product's tables, those on the search path first and in its order. */
  found: { schema: string; is_visible: boolean }[];
}

/** Where the product's tables are, or null where they are not, or where that is not clear. */
function schemaOfTables({ found }: Surroundings): string | null {
  const [first] = found;
  if (first && (first.is_visible || found.length === 1)) return first.schema;
  return found.some(({ schema }) => schema === 'public') ? 'public' : null;
}

interface ParameterStatus {
  parameterName: string;
  parameterValue: string;
}

type Send = (query: unknown, values?: unknown, callback?: unknown) => Promise<pg.QueryResult>;
type Callback = (error: unknown, result?: pg.QueryResult) => void;

/** What begins a transaction: `begin`, or more words. */
const BEGIN = /^\s*(begin|start transaction)\b/i;

/** Most that {@link LOOK_AROUND} may take: it reads little, and a connection is waited for. */
const LOOK_AROUND_TIMEOUT_MS = 2_000;

/**
 * A statement without an answer within `query_timeout` ends the connection, since the next one to borrow it would wait
 * behind it for the same silent server: one that has vanished without closing holds a connection for a quarter of an hour.
 */
export class IndependentClient extends pg.Client {
  private readonly send: Send;
  private readonly limits: StatementLimits;
  private readonly preparedStatements: PreparedStatements;
  /** Null until it has looked. */
  private surroundings: Surroundings | null = null;
  /** What begins a transaction that depends on nothing. */
  private opening: string[] = [];
  /** The server's major version, which it tells at the start. */
  private version = 0;

  constructor(config: IndependentClientConfig = {}) {
    super(config); // as it is, since a copy would lack the password
    Object.assign(this, { pipeline: true }); // which also ends a connection whose server is silent
    this.limits = {
      statement_timeout: 0,
      lock_timeout: 0,
      idle_in_transaction_session_timeout: 0,
      ...config.limits,
    };
    this.connection.on('parameterStatus', ({ parameterName, parameterValue }: ParameterStatus) => {
      if (parameterName === 'server_version') this.version = Number.parseInt(parameterValue, 10);
    });
    this.on('error', () => undefined); // until somebody listens; what is asked of it next fails
    this.preparedStatements = config.preparedStatements ?? PreparedStatements.Off;
    const ask = this.query.bind(this) as (...call: unknown[]) => unknown;
    this.send = (...call) =>
      watchForStale((...named) => ask(...named), this.isPreparing ? prepared(call) : call);
    this.query = (...call: [query: unknown, values?: unknown, callback?: unknown]) => {
      if (this.isSettled) return this.send(...call) as Promise<never>;
      const answer = this.run(
        call[0],
        call.find((argument) => Array.isArray(argument)),
      );
      const callback = call.find((argument): argument is Callback => typeof argument === 'function');
      if (!callback) return answer as Promise<never>;
      void answer.then(
        (result) => callback(null, result),
        (error: unknown) => callback(error),
      );
      return undefined as never;
    };
    const connect = this.connect.bind(this);
    this.connect = (callback?: (error: never, client: never) => void) => {
      const connected = connect().then(() => this.settle());
      if (!callback) return connected.then(() => this) as never;
      const call = callback as (error: unknown, client?: pg.Client) => void;
      void connected.then(() => call(null, this), call);
      return undefined as never;
    };
  }

  private get isPreparing(): boolean {
    if (this.preparedStatements !== PreparedStatements.Auto) {
      return this.preparedStatements === PreparedStatements.On;
    }
    return this.surroundings !== null && !this.isPooled;
  }

  /** Whether nothing is left to be said with a statement. */
  private get isSettled(): boolean {
    return this.surroundings !== null && !this.isPooled && schemaOfTables(this.surroundings) !== null;
  }

  /** Whether a pooler stands between, which gives its clients another number than the server's. */
  private get isPooled(): boolean {
    return this.surroundings?.pid !== (this as unknown as { processID: number | null }).processID;
  }

  private async run(query: unknown, values: unknown): Promise<pg.QueryResult> {
    if (this.getTransactionStatus() !== 'I') return this.send(query, values); // its transaction has said it
    // Until the migrations have run, the next statement may find the tables.
    if (!this.surroundings || schemaOfTables(this.surroundings) === null) await this.settle();
    if (!this.isPooled) return this.send(query, values);
    const isBeginning = typeof query === 'string' && BEGIN.test(query);
    return this.inTransaction(isBeginning ? null : () => this.send(query, values));
  }

  /** Looks where it is, and makes the connection independent of that, if it is nobody else's. */
  private async settle(): Promise<void> {
    try {
      this.opening = [this.begin(LOOK_AROUND_TIMEOUT_MS)];
      const { rows } = await this.inTransaction(() => this.send({ text: LOOK_AROUND, types: pg.types }));
      const surroundings = rows[0] as Surroundings;
      this.surroundings = surroundings;
      const { statement_timeout: timeoutMs, lock_timeout } = this.limits;
      const settings = { ...SETTINGS, lock_timeout: String(lock_timeout), ...searchPath(surroundings) };
      if (this.isPooled) {
        // Where it may only read, there is no sense in asking for more.
        const access = surroundings.is_standby ? '' : ', read write';
        this.opening = [this.begin(timeoutMs, access), setting(settings, 'transaction')];
        return;
      }
      // Apart, since what is sent in one go has the time that the default allows for all of it.
      await all([
        this.send(this.time('set', timeoutMs)),
        this.send(setting({ ...settings, ...TRANSACTION_DEFAULTS }, 'session')),
      ]);
    } catch (error) {
      this.connection.stream.destroy(); // whoever wanted it does not get it
      throw error;
    }
  }

  /**
   * Sends a transaction that depends on nothing, all of it at once.
   *
   * @param work sends the statement in it; null: it is left open
   */
  private async inTransaction(work: (() => Promise<pg.QueryResult>) | null): Promise<pg.QueryResult> {
    const { stream } = this.connection;
    stream.cork();
    const sent = this.opening.map((text) => this.send(text));
    if (work) sent.push(work(), this.send('commit'));
    stream.uncork();
    const answers = await all(sent);
    // Of several statements in one text there are several results.
    return work ? answers.at(-2)! : [answers[0]!].flat()[0]!;
  }

  private begin(statementTimeoutMs: number, access = ''): string {
    return `begin isolation level read committed${access}, not deferrable; ${this.time('set local', statementTimeoutMs)}`;
  }

  /** Time for what follows, and the first thing to be said: until then the server's defaults hold. */
  private time(set: 'set' | 'set local', statementTimeoutMs: number): string {
    const times = [
      `statement_timeout = ${statementTimeoutMs}`,
      `idle_in_transaction_session_timeout = ${this.limits.idle_in_transaction_session_timeout}`,
    ];
    if (this.version >= VERSION_WITH_TRANSACTION_TIMEOUT) times.push('transaction_timeout = 0');
    return times.map((time) => `${set} ${time}`).join('; ');
  }
}

/**
 * While the tables are still to be made, it is as it is, if it says a schema; one that names none that exists leads to
 * `public`, unless the connection has asked for it.
 */
function searchPath(surroundings: Surroundings): { search_path?: string } {
  const { schema, is_asked_for, found } = surroundings;
  const isNowhere = schema === null && found.length === 0 && !is_asked_for;
  const home = schemaOfTables(surroundings) ?? (isNowhere ? 'public' : null);
  if (home === null) return {};
  // The ledger of migrations may be in `public`, and the tables elsewhere.
  const path = [...new Set([home, 'public'])].map((name) => pg.escapeIdentifier(name));
  return { search_path: path.join(', ') };
}

/** A call of `query` whose statement has a name, where it has values: what has none is sent as text. */
function prepared([query, values, ...rest]: unknown[]): unknown[] {
  if (typeof query === 'string' && Array.isArray(values) && values.length > 0) {
    return [{ text: query, values, name: statementName(query) }, ...rest];
  }
  const { text, values: own, name } = (query ?? {}) as Partial<pg.QueryConfig>;
  const isPlain = typeof query === 'object' && !('submit' in query!) && name === undefined;
  return isPlain && text !== undefined && Array.isArray(own) && own.length > 0
    ? [{ ...query, name: statementName(text) }, values, ...rest]
    : [query, values, ...rest];
}

/** Calls `query`, and has all statements parsed anew where the server says that one cannot be run as it was parsed. */
function watchForStale(ask: (...call: unknown[]) => unknown, call: unknown[]): Promise<pg.QueryResult> {
  const look = (error: unknown): void => {
    if (isStaleStatement(error)) forgetStatements();
  };
  const watched = call.map((argument) =>
    typeof argument === 'function'
      ? (error: unknown, result?: pg.QueryResult) => {
          look(error);
          (argument as Callback)(error, result);
        }
      : argument,
  );
  const answer = ask(...watched) as Promise<pg.QueryResult>;
  if (answer instanceof Promise) answer.catch(look);
  return answer;
}

/** One statement for all of them, sent without parameters: as text, whatever stands between. */
function setting(settings: Record<string, string>, scope: 'session' | 'transaction'): string {
  const calls = Object.entries(settings).map(
    ([name, value]) => `set_config('${name}', ${pg.escapeLiteral(value)}, ${scope === 'transaction'})`,
  );
  return `select ${calls.join(', ')}`;
}

/** Waits for the answers to all, so that none is left to whoever uses the connection next; throws the first error. */
async function all(answers: readonly Promise<pg.QueryResult>[]): Promise<pg.QueryResult[]> {
  await Promise.allSettled(answers);
  return Promise.all(answers);
}
