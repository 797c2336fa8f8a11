// A program of the measurement in a process of its own, so that its time is its own, and what it takes can be told apart.
import { fork } from 'node:child_process';
import { once } from 'node:events';

/**
 * @typedef {object} Program
 * @property {number} pid
 * @property {any} started what it said when it was ready
 * @property {(message: object) => Promise<any>} ask one question at a time
 * @property {() => Promise<void>} stop
 */

/**
 * Starts `file` of this folder with `input`, and waits until it is ready.
 *
 * @param {string} file
 * @param {object} [input]
 * @returns {Promise<Program>}
 */
export async function startProgram(file, input = {}) {
  const child = fork(new URL(file, import.meta.url), [JSON.stringify(input)], { execArgv: [] });
  const answer = async () => {
    const abort = new AbortController();
    const ended = once(child, 'exit', { signal: abort.signal }).then(() => {
      throw new Error(`${file} has ended`);
    });
    ended.catch(() => undefined);
    try {
      const [message] = await Promise.race([once(child, 'message', { signal: abort.signal }), ended]);
      return message;
    } finally {
      abort.abort();
    }
  };
  return {
    pid: Number(child.pid),
    started: await answer(),
    ask(message) {
      child.send(message);
      return answer();
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL'); // it holds nothing that is needed again
      await once(child, 'exit');
    },
  };
}

/** What this program was started with. */
export const input = () => JSON.parse(process.argv[2] ?? '{}');

/**
 * Says that this program is ready, and from then on answers what it is asked.
 *
 * @param {object} started
 * @param {(message: any) => Promise<object> | object} [answer]
 */
export function ready(started, answer = () => ({})) {
  process.on('message', async (message) => process.send?.(await answer(message)));
  process.send?.(started);
}

/** @param {import('node:http').Server} server @returns {Promise<string>} its address, once it listens */
export async function listen(server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
}
