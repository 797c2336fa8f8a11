import { beforeAll, describe, expect, it } from '@jest/globals';
import { Role } from '../../src/config/env.js';
import {
  alertRules,
  alertTests,
  dashboard,
  dashboardExpressions,
  dashboardPanels,
  deployFile,
} from '../support/monitoring-files.js';
import { productMetrics } from '../support/product-metrics.js';
import { describeWithPromtool, promtool, promtoolOn } from '../support/promtool.js';

/** What Prometheus adds to every series, and to a histogram's buckets. */
const LABELS_OF_PROMETHEUS = ['job', 'instance', 'le'];

interface Known {
  labels: string[];
}
/** Every name that a series of ours can have. */
const known = new Map<string, Known>();
beforeAll(async () => {
  for (const { name, type, labels } of await productMetrics(Role.All)) {
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes) known.set(name + suffix, { labels });
  }
});

/** The series that an expression names, with the labels that it selects by. */
const selectorsIn = (expression: string): { name: string; labels: string[] }[] =>
  [...expression.matchAll(/\b((?:assistly|nodejs|process)_\w+)(?:\{([^}]*)\})?/g)].map(
    ([, name = '', labels = '']) => ({
      name,
      labels: [...labels.matchAll(/(\w+) *[=!]/g)].map((match) => match[1]!),
    }),
  );

const alertExpressions = alertRules.map(({ expr }) => String(expr));
const testedSeries: string[] = alertTests.tests.flatMap((test: { input_series: { series: string }[] }) =>
  test.input_series.map(({ series }) => series),
);

describe.each([
  ['the dashboard', dashboardExpressions],
  ['the alerts', alertExpressions],
  ['the tests of the alerts', testedSeries],
])('%s', (_, expressions) => {
  it('use metrics and labels that there are, and no others', () => {
    const selectors = expressions.flatMap(selectorsIn);
    expect(selectors.length).toBeGreaterThanOrEqual(expressions.length);
    for (const { name, labels } of selectors) {
      expect([name, known.has(name)]).toEqual([name, true]);
      const allowed = [...LABELS_OF_PROMETHEUS, ...known.get(name)!.labels];
      expect([name, labels.filter((label) => !allowed.includes(label))]).toEqual([name, []]);
    }
  });

  it('group by labels that there are', () => {
    for (const expression of expressions) {
      const allowed = [
        ...LABELS_OF_PROMETHEUS,
        ...selectorsIn(expression).flatMap(({ name }) => known.get(name)!.labels),
      ];
      for (const [, labels = ''] of expression.matchAll(/\bby *\(([^)]*)\)/g)) {
        for (const label of labels.split(',')) expect(allowed).toContain(label.trim());
      }
    }
  });
});

describe('the dashboard', () => {
  it('shows every metric of ours', () => {
    const shown = new Set(
      dashboardExpressions.flatMap(selectorsIn).map(({ name }) => name.replace(/_bucket$/, '')),
    );
    const ours = [...known.keys()].filter(
      (name) => name.startsWith('assistly_') && !/_(sum|count)$/.test(name),
    );

    expect(ours.map((name) => name.replace(/_bucket$/, '')).filter((name) => !shown.has(name))).toEqual([]);
  });

  it('can be imported: any Prometheus, each panel with a title, a unit and a place of its own', () => {
    expect(dashboard.templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' });
    const places = new Set<string>();
    const ids = new Set<number>();
    for (const panel of dashboardPanels) {
      expect(panel.title).toMatch(/\S/);
      expect(panel.fieldConfig.defaults.unit).toMatch(/^(s|short|percentunit|reqps|bytes)$/);
      for (const { datasource } of [panel, ...panel.targets]) {
        expect(datasource).toEqual({ type: 'prometheus', uid: '${datasource}' });
      }
      expect(panel.gridPos.x + panel.gridPos.w).toBeLessThanOrEqual(24);
      places.add(JSON.stringify(panel.gridPos));
      ids.add(panel.id);
    }
    expect([places.size, ids.size]).toEqual([dashboardPanels.length, dashboardPanels.length]);
  });
});

describeWithPromtool('the expressions, by promtool', () => {
  it('of the alerts are good, and the alerts fire when they should and not otherwise', () => {
    expect(promtool('check', 'rules', deployFile('prometheus-alerts.yml'))).toContain('SUCCESS');
    expect(promtool('test', 'rules', deployFile('prometheus-alerts.test.yml'))).toContain('SUCCESS');
  });

  it('of the dashboard are good', () => {
    const rules = dashboardExpressions.map((expr, i) => ({ record: `panel:${i}`, expr }));

    const said = promtoolOn(
      ['check', 'rules'],
      { 'panels.yml': { groups: [{ name: 'panels', rules }] } },
      'panels.yml',
    );

    expect(said).toContain(`${rules.length} rules found`);
  });

  it('have a test of each alert that fires, and of each that does not', () => {
    const tested = alertTests.tests.flatMap(
      (test: { alert_rule_test: { alertname: string; exp_alerts?: object[] }[] }) =>
        test.alert_rule_test.map(({ alertname, exp_alerts = [] }) => `${alertname} ${exp_alerts.length > 0}`),
    );

    for (const { alert } of alertRules)
      expect(tested).toEqual(expect.arrayContaining([`${alert} true`, `${alert} false`]));
  });
});
