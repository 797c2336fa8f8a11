import { endSeen } from './seen.mjs';

/**
 * @param {{ testPathPatterns: { patterns: string[] }, testNamePattern?: string, projects: unknown[] }} globalConfig
 */
export default async function globalTeardown({ testPathPatterns, testNamePattern }) {
  for (const stop of globalThis.assistlyTestServices) await stop();
  const isNarrowed =
    testPathPatterns.patterns.length > 0 || testNamePattern || process.argv.includes('--selectProjects');
  endSeen(!isNarrowed);
}
