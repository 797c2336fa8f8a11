import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/**
 * The path of a newcomer, as real processes: `npm start` with nothing configured, the printed lines pasted, a
 * reply streamed; then stopped as a host stops it, started again, stopped again. Ends with 1 and says why when
 * anything of it is not as the README promises. Plain JavaScript, for the machine's own Node.js (20 or newer).
 */

const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 30_000;

const root = fileURLToPath(new URL('..', import.meta.url));
/** What must not be set: every setting that the product knows, and where npm is told of production. */
const settings = [...readFileSync(join(root, '.env.example'), 'utf8').matchAll(/^#?([A-Z_]+)=/gm)].map(
  ([, name]) => name,
);
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !settings.includes(name)));

/** @type {(condition: unknown, complaint: string) => asserts condition} */
function check(condition, complaint) {
  if (!condition) throw new Error(complaint);
}

/** `npm start` in a process group of its own, as a terminal or a host has it. */
class NpmStart {
  output = '';
  /** @type {number | null | undefined} */
  exitCode;
  startedAt = performance.now();

  constructor() {
    this.child = spawn('npm', ['start'], {
      cwd: root,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (data) => (this.output += String(data)));
    }
    this.exited = once(this.child, 'close').then(([code]) => (this.exitCode = code));
  }

  get pid() {
    check(this.child.pid !== undefined, 'npm could not be started');
    return this.child.pid;
  }

  get seconds() {
    return (performance.now() - this.startedAt) / 1000;
  }

  /** What it prints when it is ready, taken apart. */
  async welcome() {
    while (!this.output.includes('Stop with Ctrl-C.')) {
      check(this.exitCode === undefined, `npm start ended with ${this.exitCode}`);
      check(this.seconds * 1000 < START_TIMEOUT_MS, `not ready within ${START_TIMEOUT_MS} ms`);
      await sleep(50);
    }
    check(this.output.includes('Assistly is ready.'), 'it does not say that it is ready');
    const lines = this.output.split('\n').filter((line) => /^(BOT|OPENED|CURSOR)=/.test(line));
    check(lines.length === 3, `${lines.length} lines to paste were printed, not 3`);
    const [, url = ''] = /^ +API +(\S+)\/v1$/m.exec(this.output) ?? [];
    const [, board = '', user, password] =
      /^ +Queue board +(\S+) +\((\S+) \/ (\S+)\)$/m.exec(this.output) ?? [];
    const [, directory = ''] = /^ +Database +embedded PostgreSQL, kept in (.+)$/m.exec(this.output) ?? [];
    const [token = ''] = /^eyJ\S+$/m.exec(this.output) ?? [];
    const [, chat = ''] = /^ +Chat +(\S+)$/m.exec(this.output) ?? [];
    check(url && board && directory && token && chat, 'it does not print where everything is');
    return { lines, url, chat, board: { url: board, user, password }, directory, token };
  }

  /**
   * Waits for a clean end after a SIGTERM, and looks that nothing is left of it.
   *
   * @param {'its group' | 'npm alone'} to
   * @param {string} directory of the database
   */
  async stop(to, directory) {
    const since = performance.now();
    process.kill(to === 'its group' ? -this.pid : this.pid, 'SIGTERM');
    const late = sleep(STOP_TIMEOUT_MS, 'late', { ref: false });
    check(
      (await Promise.race([this.exited, late])) !== 'late',
      `it still runs ${STOP_TIMEOUT_MS} ms after SIGTERM`,
    );
    check(this.exitCode === 0, `it ended with ${this.exitCode} after SIGTERM to ${to}, not with 0`);
    check(!hasProcesses(this.pid), `processes are left after SIGTERM to ${to}`);
    check(
      existsSync(join(directory, 'cluster', 'data', 'PG_VERSION')) &&
        !existsSync(join(directory, 'cluster', 'data', 'postmaster.pid')),
      `the embedded PostgreSQL in ${directory} was not stopped`,
    );
    report(`SIGTERM to ${to} → end with 0`, (performance.now() - since) / 1000);
  }

  /** However this ends, nothing of ours goes on. */
  async clearAway() {
    for (const signal of /** @type {const} */ (['SIGTERM', 'SIGKILL'])) {
      if (this.exitCode !== undefined && !hasProcesses(this.pid)) return;
      try {
        process.kill(-this.pid, signal);
      } catch {
        return; // ended meanwhile
      }
      await Promise.race([this.exited, sleep(STOP_TIMEOUT_MS, undefined, { ref: false })]);
    }
  }
}

/** @param {number} group */
function hasProcesses(group) {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}

/**
 * Pastes lines into a shell, as they are.
 *
 * @param {string[]} lines
 * @param {(output: string) => void} onOutput with all of it so far
 */
async function paste(lines, onOutput) {
  const shell = spawn('bash', ['--norc'], { cwd: root, env, stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  shell.stdout.on('data', (data) => onOutput((output += String(data))));
  shell.stdin.end(`${lines.join('\n')}\n`);
  await once(shell, 'close');
  return output;
}

/** @param {string} stream an event stream as curl shows it */
function eventsOf(stream) {
  return stream.split('\n\n').flatMap((block) => {
    const [, event] = /^event: (.*)$/m.exec(block) ?? [];
    const [, data] = /^data: (.*)$/m.exec(block) ?? [];
    return event && data ? [{ event, data: JSON.parse(data) }] : [];
  });
}

/**
 * @param {string} url
 * @param {number} status
 * @param {Record<string, string>} [headers]
 */
async function get(url, status, headers = {}) {
  const response = await fetch(url, { headers });
  check(response.status === status, `GET ${url} gives ${response.status}, not ${status}`);
  return response.text();
}

/** @type {string[]} */
const times = [];
/**
 * @param {string} what
 * @param {number} seconds
 */
function report(what, seconds) {
  times.push(`${what}: ${seconds.toFixed(1)} s`);
  console.log(`  ${times.at(-1)}`);
}

async function portIsTaken() {
  const server = createServer();
  server.listen(3000, '127.0.0.1');
  try {
    await once(server, 'listening');
    server.close();
    return false;
  } catch {
    return true;
  }
}

/** @type {NpmStart[]} */
const started = [];
function npmStart() {
  const program = new NpmStart();
  started.push(program);
  return program;
}

async function firstRun() {
  check(!existsSync(join(root, '.env')), 'there is a .env in this clone: the first run is one without');
  if (await portIsTaken()) {
    console.log('  (port 3000 is taken here, so a free one is used)');
    env.PORT = '0';
  }

  const first = npmStart();
  const { lines, url, chat, board, directory, token } = await first.welcome();
  report('npm start → ready', first.seconds);
  let hasReply = false;
  const pasted = await paste(lines, (output) => {
    if (hasReply || !output.includes('event: reply.completed')) return;
    hasReply = true;
    report('npm start → first reply', first.seconds);
  });
  const events = eventsOf(pasted);
  const { message, reply } = events.find(({ event }) => event === 'reply.completed')?.data ?? {};
  check(message, `no reply was streamed:\n${pasted}`);
  check(reply.status === 'completed' && message.sender === 'ai', 'the reply is not a completed one');
  check(message.content.includes('7 to 18'), `the reply does not answer: ${message.content}`);
  const text = events.filter(({ event }) => event === 'reply.delta').map(({ data }) => data.text);
  check(text.join('') === message.content, 'the streamed text is not the stored message');

  await get(`${url}/health/ready`, 200);
  check((await get(`${url}/docs`, 200)).includes('swagger'), '/docs is no documentation');
  const openApi = JSON.parse(await get(`${url}/openapi.json`, 200));
  check(openApi.paths['/v1/sessions/{id}/messages']?.post, '/openapi.json does not know the routes');
  check((await get(chat, 200)).includes('Corner Bakery'), 'the page of the demo has no chatbot');
  check((await get(`${url}/`, 200)).includes(chat), '/ does not lead to the chat');
  await get(board.url, 401);
  const basic = Buffer.from(`${board.user}:${board.password}`).toString('base64');
  await get(board.url, 200, { authorization: `Basic ${basic}` });
  console.log('  health, chat, documentation, queue board: there');

  const second = npmStart();
  check(
    (await second.exited) === 1,
    `a second npm start of the clone ended with ${second.exitCode}, not with 1`,
  );
  check(second.output.includes('Already running here'), `it does not say why:\n${second.output}`);
  await get(`${url}/health/ready`, 200);
  console.log('  a second npm start of the same clone: says that it runs already, and ends with 1');
  await first.stop('its group', directory);

  const again = npmStart();
  const later = await again.welcome();
  report('second npm start → ready', again.seconds);
  check(new URL(later.chat).pathname === new URL(chat).pathname, 'there is another demo');
  check(later.board.password === board.password, 'the password of the queue board is another one');
  const owner = { authorization: `Bearer ${token}` }; // of the first start: its key was kept
  const chatbots = JSON.parse(await get(`${later.url}/v1/chatbots`, 200, owner));
  const sessions = await Promise.all(
    chatbots.data.map((/** @type {{ id: string }} */ { id }) =>
      get(`${later.url}/v1/chatbots/${id}/sessions`, 200, owner),
    ),
  );
  check(sessions.join().includes(message.chatSessionId), 'the session of the first start is gone');
  const kept = await get(`${later.url}/v1/sessions/${message.chatSessionId}/messages`, 200, owner);
  check(kept.includes(message.id), 'the reply of the first start is gone');
  await again.stop('npm alone', directory);
}

console.log('First run: npm start, with nothing configured');
try {
  await firstRun();
  console.log(`First run passed. ${times.join('; ')}.`);
} catch (error) {
  console.error(`First run failed: ${error instanceof Error ? error.message : String(error)}`);
  for (const { output } of started) console.error(`--- what npm start said ---\n${output}`);
  process.exitCode = 1;
} finally {
  for (const program of started) await program.clearAway();
}
