// What processes took of the processor and of memory, as Linux keeps it in /proc.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

const MS_PER_TICK = 1_000 / Number(execFileSync('getconf', ['CLK_TCK']));
const [PARENT, USER, SYSTEM, CHILDREN_USER, CHILDREN_SYSTEM] = [1, 11, 12, 13, 14];

/** Of a process, what stands behind its name: state, parent, … @param {number} pid @returns {string[]} */
function statOf(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** @param {string[]} stat @param {number[]} fields */
const msOf = (stat, ...fields) => fields.reduce((sum, field) => sum + Number(stat[field]), 0) * MS_PER_TICK;

/** Processor time of a process so far, in milliseconds. @param {number} pid */
export const processorMs = (pid) => msOf(statOf(pid), USER, SYSTEM);

/** Of a process and all its children, ended ones too. @param {number} pid */
export function processorMsOfFamily(pid) {
  let total = msOf(statOf(pid), USER, SYSTEM, CHILDREN_USER, CHILDREN_SYSTEM);
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = statOf(Number(name));
      if (Number(stat[PARENT]) === pid) total += msOf(stat, USER, SYSTEM);
    } catch {
      // it has ended meanwhile
    }
  }
  return total;
}

/** @param {number} pid */
export const parentOf = (pid) => Number(statOf(pid)[PARENT]);

/** Memory of a process that is in use, in kB. @param {number} pid */
export function memoryKb(pid) {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/**
 * What some work took of the processors of others, by their names, in milliseconds.
 *
 * @template T
 * @template {string} Name
 * @param {Record<Name, () => number>} clocks
 * @param {() => Promise<T>} work
 * @returns {Promise<{ result: T, wallMs: number, took: Record<Name, number> }>}
 */
export async function measure(clocks, work) {
  const names = /** @type {Name[]} */ (Object.keys(clocks));
  const before = names.map((name) => clocks[name]());
  const begun = performance.now();
  const result = await work();
  const wallMs = performance.now() - begun;
  const took = names.map((name, index) => [name, clocks[name]() - before[index]]);
  return { result, wallMs, took: Object.fromEntries(took) };
}
