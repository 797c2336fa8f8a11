import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Role } from '../../src/config/env.js';
import { createApp, loadConfig } from './product.js';

const { Metrics } = await importProduct<typeof import('../../src/metrics/metrics.js')>('metrics/metrics.js');

export interface ProductMetric {
  name: string;
  type: string;
  labels: string[];
}

/** What a process of a role measures, prom-client's own metrics among them. It is made, and not started. */
export async function productMetrics(role: Role): Promise<ProductMetric[]> {
  const stateDir = mkdtempSync(join(tmpdir(), 'assistly-metrics-'));
  const env = { NODE_ENV: 'test', LOG_LEVEL: 'silent', DATABASE_URL: 'postgres://127.0.0.1/none' };
  const app = await createApp(loadConfig(role, env, stateDir));
  try {
    const { registry } = app.get(Metrics, { strict: false });
    return (await registry.getMetricsAsJSON()).map(({ name, type }) => {
      const { labelNames } = registry.getSingleMetric(name) as unknown as { labelNames: string[] };
      return { name, type: String(type), labels: labelNames };
    });
  } finally {
    await app.close();
    rmSync(stateDir, { recursive: true, force: true });
  }
}
