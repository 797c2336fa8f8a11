import { describe, expect, it } from '@jest/globals';
import { advisoriesIn, problemsIn } from '../../.ci/audit.mjs';

/** What the audit of CI makes of what `npm audit --json` says. */

const REPORT = {
  auditReportVersion: 2,
  vulnerabilities: {
    parser: {
      name: 'parser',
      severity: 'high',
      via: [
        {
          source: 1_000_001,
          name: 'parser',
          title: 'Stops the loop',
          url: 'https://github.com/advisories/GHSA-aaaa-bbbb-cccc',
          severity: 'high',
        },
      ],
    },
    framework: { name: 'framework', severity: 'high', via: ['parser'] },
    logger: {
      name: 'logger',
      severity: 'low',
      via: [{ source: 1_000_002, name: 'logger', title: 'Says too much', url: '', severity: 'low' }],
    },
  },
};

describe('the audit', () => {
  const advisories = advisoriesIn(REPORT)!;

  it('finds each advisory once, with its package', () => {
    expect(advisories).toEqual([
      { id: 'GHSA-aaaa-bbbb-cccc', severity: 'high', title: 'Stops the loop', package: 'parser' },
      { id: '1000002', severity: 'low', title: 'Says too much', package: 'logger' },
    ]);
  });

  it('fails for each that is not accepted, and accepts it until its day is over', () => {
    expect(problemsIn(advisories, {}, '2026-01-31')).toHaveLength(2);
    const accepted = {
      'GHSA-aaaa-bbbb-cccc': { reason: 'we parse nothing with it', until: '2026-02-28' },
      '1000002': { reason: 'it is not told anything', until: '2026-02-28' },
    };

    expect(problemsIn(advisories, accepted, '2026-02-28')).toEqual([]);
    expect(problemsIn(advisories, accepted, '2026-03-01')).toEqual([
      'parser: high, Stops the loop (GHSA-aaaa-bbbb-cccc)',
      'logger: low, Says too much (1000002)',
    ]);
  });

  it('does not let an acceptance stay for good', () => {
    const accepted = { 'GHSA-gone-gone-gone': { reason: 'mended', until: '2099-01-01' } };

    expect(problemsIn([], accepted, '2026-01-31')).toEqual([
      'GHSA-gone-gone-gone is accepted, and there is no such advisory any more: take it out',
    ]);
  });

  it.each([[null], [''], [{}], [{ error: { code: 'ENOAUDIT' } }], [{ message: '405' }]])(
    'knows where the registry has not answered: %j',
    (report) => {
      expect(advisoriesIn(report)).toBeNull();
    },
  );
});
