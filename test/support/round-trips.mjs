// Doors in front of PostgreSQL and Redis that note what goes through them: how many round trips, and which statements.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * @typedef {object} Door
 * @property {string} url the server's, by way of this door
 * @property {() => string[]} take what was asked since the last time, a round trip each
 * @property {() => Promise<void>} close
 */

/**
 * @param {string} target
 * @param {() => (part: Buffer) => string[]} reader of one connection: what each of its round trips asked
 * @returns {Promise<Door>}
 */
async function openDoor(target, reader) {
  const server = new URL(target);
  /** @type {string[]} */
  let asked = [];
  /** @type {Set<import('node:net').Socket>} */
  const open = new Set();
  const door = createServer((client) => {
    const behind = connect(Number(server.port), server.hostname);
    const read = reader();
    client.on('data', (part) => asked.push(...read(part)));
    for (const [one, other] of [
      [client, behind],
      [behind, client],
    ]) {
      open.add(one);
      one.setNoDelay(true);
      one.on('error', () => undefined);
      one.once('close', () => other.destroy());
      one.pipe(other);
    }
  });
  door.listen(0, '127.0.0.1');
  await once(door, 'listening');
  const url = new URL(target);
  url.hostname = '127.0.0.1';
  url.port = String(/** @type {import('node:net').AddressInfo} */ (door.address()).port);
  return {
    url: url.href,
    take() {
      const taken = asked;
      asked = [];
      return taken;
    },
    async close() {
      for (const socket of open) socket.destroy();
      door.close();
      await once(door, 'close');
    },
  };
}

const SSL_REQUEST = 80_877_103;

/**
 * A PostgreSQL that speaks in plain text: each statement with its text, however it was prepared. Not what the product sets a
 * new connection up with: it has many at once, and opens them when it likes.
 *
 * @param {string} target
 */
export const openPostgresDoor = (target) =>
  openDoor(target, () => {
    let rest = Buffer.alloc(0);
    let hasStarted = false;
    let text = '';
    const prepared = new Map();
    const isSetUp = setUpWatch();
    /** @param {string} statement @param {string[]} asked */
    const note = (statement, asked) => {
      const line = inOneLine(statement);
      if (!isSetUp(line)) asked.push(line);
    };
    return (part) => {
      rest = Buffer.concat([rest, part]);
      /** @type {string[]} */
      const asked = [];
      for (;;) {
        const at = hasStarted ? 1 : 0; // what comes first has no type
        if (rest.length < at + 4) return asked;
        const length = at + rest.readUInt32BE(at);
        if (rest.length < length) return asked;
        const message = rest.subarray(0, length);
        rest = rest.subarray(length);
        if (!hasStarted) {
          hasStarted = message.readUInt32BE(4) !== SSL_REQUEST;
          continue;
        }
        const strings = message.subarray(5).toString('latin1').split('\0', 2);
        switch (String.fromCharCode(message[0] ?? 0)) {
          case 'P': // Parse: the statement's name, its text
            prepared.set(strings[0], strings[1]);
            break;
          case 'B': // Bind: the portal's name, the statement's
            text = prepared.get(strings[1]) ?? '?';
            break;
          case 'S': // Sync, which is answered
            note(text, asked);
            break;
          case 'Q':
            note(strings[0] ?? '', asked);
        }
      }
    };
  });

/** Of one connection: its settings, and the transaction in which it looks around. @returns {(statement: string) => boolean} */
function setUpWatch() {
  let isLooking = false;
  return (statement) => {
    if (/^begin isolation level [^;]*; set local /.test(statement)) isLooking = true;
    const isPart = isLooking || /^set |^select set_config\(/.test(statement);
    if (statement === 'commit') isLooking = false;
    return isPart;
  };
}

/** @param {string} text */
const inOneLine = (text) => text.replace(/\s+/g, ' ').trim();

/**
 * A Redis without TLS: each command with its first key, as {@link commandName} has it; those of one write stand together, a
 * line each, since they share a round trip.
 *
 * @param {string} target
 */
export const openRedisDoor = (target) =>
  openDoor(target, () => {
    let rest = '';
    return (part) => {
      rest += part.toString('latin1');
      const commands = [];
      for (;;) {
        const command = firstCommand(rest);
        if (!command) break;
        commands.push(commandName(command.words));
        rest = rest.slice(command.length);
      }
      return commands.length === 0 ? [] : [commands.join('\n')];
    };
  });

const ID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;

/** Without what differs from one installation and session to the next. @param {string[]} words */
function commandName([name = '', ...rest]) {
  const command = name.toUpperCase();
  const isScript = command === 'EVAL' || command === 'EVALSHA';
  const key = (isScript ? rest[2] : rest[0]) ?? '';
  return `${isScript ? 'EVAL' : command} ${key.replace(/^[^:{]*:/, '').replace(ID, '*')}`.trim();
}

/**
 * What goes on by itself, or is done once for many sessions: notifications and what is read for them, the renewal of leases,
 * the note that ends were published, the sign of life of the event stream; a worker's queue, which looks for jobs.
 */
const BY_ITSELF = {
  api: /^select (pg_notify|stream\.)|^SET proof:/,
  worker: /^select (pg_notify|stream\.)|lease_until|announced_at|^SET proof:|^BullMQ: |^\w+ bull:/,
};

/** @param {string} name of a statement or command @param {'api' | 'worker'} role */
export const isByItself = (name, role) => BY_ITSELF[role].test(name);

/** What of a statement tells it from others: what it does, and to which table or by which function. @param {string} text */
export function statementName(text) {
  if (text.startsWith('--')) return `BullMQ: ${/\b(?:from|select) (\w+)\(/i.exec(text)?.[1] ?? 'look'}`;
  let flat = text.replaceAll('"', '');
  while (/\([^()]*\)/.test(flat)) flat = flat.replace(/\([^()]*\)/g, ''); // the innermost first
  const [, what] =
    /^select .*?\b(from (?!unnest)\w+)/.exec(flat) ??
    /^\w+ ((?:into |from )?[\w.]+(?: set \w+)?)/.exec(flat) ??
    [];
  return what === undefined ? flat : `${/^\w+/.exec(flat)?.[0]} ${what}`;
}

/** @param {string} text in RESP @returns {{ words: string[], length: number } | null} null where it is not whole yet */
function firstCommand(text) {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (!head) return null;
  let at = head[0].length;
  const words = [];
  for (let n = 0; n < Number(head[1]); n++) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at, at + 16));
    if (!size) return null;
    at += size[0].length;
    words.push(text.slice(at, at + Number(size[1])));
    at += Number(size[1]) + 2;
    if (at > text.length) return null;
  }
  return { words, length: at };
}
