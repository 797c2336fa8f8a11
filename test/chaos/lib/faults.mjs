import { setTimeout as sleep } from 'node:timers/promises';
import { within } from './cluster.mjs';

/**
 * What may happen to a running product, and how often. Each is bounded; those that last go on in the background,
 * and are waited for at the end of the injection.
 */
export const USUAL = {
  killWorker: 5,
  killApi: 3,
  termWorker: 2,
  termApi: 2,
  stopWorker: 3,
  stopApi: 2,
  restartRedis: 3,
  flushRedis: 3,
  freezeRedis: 2,
  killPubSub: 2,
  restartPostgres: 2,
  crashPostgres: 2,
  killListeners: 2,
  killBackends: 2,
  deleteJobs: 3,
};
const ONLY_REDIS = ['restartRedis', 'flushRedis', 'freezeRedis', 'killPubSub'];

/** A worker is stopped for longer than its lease (20 s) lasts. */
const ZOMBIE_MS = 25_000;

export class Injector {
  counts = {};
  errors = [];
  /** Replies that a killed worker was busy with. */
  killed = [];
  #background = new Set();
  #busy = new Set();

  /**
   * @param {import('./cluster.mjs').Cluster} cluster
   * @param {import('./provider.mjs').Provider} provider
   * @param {import('./random.mjs').Random} random
   * @param {Record<string, number>} weights
   * @param {(line: string) => void} log
   */
  constructor(cluster, provider, random, weights, log) {
    Object.assign(this, { cluster, provider, random, log });
    this.weights = Object.fromEntries(
      Object.entries(weights).filter(([name]) => cluster.backend === 'redis' || !ONLY_REDIS.includes(name)),
    );
  }

  /** Injects for some time. @param {[number, number]} everyMs */
  async run(forMs, everyMs) {
    const end = Date.now() + forMs;
    for (;;) {
      const pauseMs = this.random.between(...everyMs);
      if (Date.now() + pauseMs > end) break;
      await sleep(pauseMs);
      const name = this.random.weighted(this.weights);
      try {
        const what = await within(20_000, this[name](), name);
        if (what === null) continue;
        this.counts[name] = (this.counts[name] ?? 0) + 1;
        this.log(`${name} ${what ?? ''}`);
      } catch (error) {
        this.errors.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    await sleep(Math.max(0, end - Date.now()));
    while (this.#background.size > 0) await Promise.all(this.#background); // one may begin another
  }

  #later(work) {
    const done = work
      .catch((error) => this.errors.push(String(error)))
      .finally(() => this.#background.delete(done));
    this.#background.add(done);
  }

  /** One that runs and that nothing else is being done to; one of a role is always left alone. */
  #victim(processes) {
    const free = processes.filter((each) => each.isRunning && !each.isPaused && !this.#busy.has(each));
    if (free.length < 2) return null;
    const victim = this.random.pick(free);
    this.#busy.add(victim);
    return victim;
  }

  #restartLater(victim) {
    this.#later(
      (async () => {
        await sleep(this.random.between(200, 2_500));
        victim.start();
        await sleep(2_000); // it is a victim again once it is up
      })().finally(() => this.#busy.delete(victim)),
    );
  }

  async killWorker() {
    const victim = this.#victim(this.cluster.workers);
    if (!victim) return null;
    const at = Date.now();
    const tags = this.provider.openCallsOf(victim.name).map(({ tag }) => tag);
    await victim.end('SIGKILL', 5_000);
    for (const tag of tags) this.killed.push({ tag, at, worker: victim.name });
    this.#restartLater(victim);
    return `${victim.name} (${tags.length} replies)`;
  }

  async killApi() {
    const victim = this.#victim(this.cluster.apis);
    if (!victim) return null;
    await victim.end('SIGKILL', 5_000);
    this.#restartLater(victim);
    return victim.name;
  }

  async #term(processes) {
    const victim = this.#victim(processes);
    if (!victim) return null;
    this.#later(
      victim
        .end('SIGTERM', 45_000)
        .catch((error) => this.cluster.crashes.push(String(error)))
        .then(() => this.#restartLater(victim)),
    );
    return victim.name;
  }

  termWorker() {
    return this.#term(this.cluster.workers);
  }

  termApi() {
    return this.#term(this.cluster.apis);
  }

  async #stop(processes, ms) {
    const victim = this.#victim(processes);
    if (!victim) return null;
    victim.pause();
    this.#later(
      sleep(ms)
        .then(() => victim.continue())
        .then(() => sleep(500))
        .finally(() => this.#busy.delete(victim)),
    );
    return `${victim.name} for ${Math.round(ms / 1000)} s`;
  }

  stopWorker() {
    // Two of three at once would leave too little to go on with.
    if (this.cluster.workers.some(({ isPaused }) => isPaused)) return Promise.resolve(null);
    return this.#stop(this.cluster.workers, ZOMBIE_MS);
  }

  stopApi() {
    return this.#stop(this.cluster.apis, this.random.between(1_000, 6_000));
  }

  async restartRedis() {
    const ms = this.random.between(0, 4_000);
    await this.cluster.restartRedis(ms);
    return `down for ${Math.round(ms)} ms, without its data`;
  }

  async flushRedis() {
    await this.cluster.redisCli('FLUSHALL');
    return '';
  }

  async freezeRedis() {
    const ms = this.random.between(1_000, 8_000);
    await this.cluster.freezeRedis(ms);
    return `for ${Math.round(ms)} ms`;
  }

  async killPubSub() {
    await this.cluster.redisCli('CLIENT', 'KILL', 'TYPE', 'pubsub');
    return '';
  }

  async restartPostgres() {
    const ms = this.random.chance(0.5) ? 0 : this.random.between(500, 3_000);
    await this.cluster.restartPostgres('fast', ms);
    return `down for ${Math.round(ms)} ms and its start`;
  }

  async crashPostgres() {
    const ms = this.random.chance(0.5) ? 0 : this.random.between(500, 3_000);
    await this.cluster.restartPostgres('immediate', ms);
    return `immediate, down for ${Math.round(ms)} ms and its start`;
  }

  async killListeners() {
    const rows = await this.cluster.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and (query ilike 'listen%' or application_name = 'assistly-event-stream')`,
    );
    return `${rows.length} connections`;
  }

  async killBackends() {
    const rows = await this.cluster.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid() and application_name <> ''
         and application_name <> 'chaos' and random() < 0.5`,
    );
    return `${rows.length} connections`;
  }

  async deleteJobs() {
    if (this.cluster.backend === 'postgres') {
      const rows = await this.cluster.query('delete from bullmq.job returning id');
      return `${rows.length} jobs`;
    }
    const keys = (await this.cluster.redisCli('--scan', '--pattern', 'chaos:bull:*'))
      .split('\n')
      .filter(Boolean);
    if (keys.length > 0) await this.cluster.redisCli('DEL', ...keys.slice(0, 2_000));
    return `${keys.length} keys`;
  }
}
