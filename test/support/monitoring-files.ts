import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { Json } from './api-client.js';

export const deployFile = (name: string): string =>
  fileURLToPath(new URL(`../../deploy/${name}`, import.meta.url));
const read = (name: string): string => readFileSync(deployFile(name), 'utf8');

export const dashboard: Json = JSON.parse(read('grafana-dashboard.json'));
export const alertRules: Json[] = parse(read('prometheus-alerts.yml')).groups.flatMap(
  ({ rules }: Json) => rules,
);
export const alertTests: Json = parse(read('prometheus-alerts.test.yml'));

/** The panels that show something. */
export const dashboardPanels: Json[] = dashboard.panels.filter(({ type }: Json) => type !== 'row');

/** Every expression of the dashboard, with Grafana's variables filled in. */
export const dashboardExpressions: string[] = dashboardPanels.flatMap(({ targets }) =>
  targets.map(({ expr }: Json) => expr.replaceAll('$__rate_interval', '1m').replaceAll('$job', '.*')),
);
