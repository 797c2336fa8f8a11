// What every section is given, and how its sides take turns.

/**
 * @typedef {object} Run
 * @property {import('./stores.mjs').Stores} stores
 * @property {import('./stores.mjs').Backend} backend
 * @property {import('./report.mjs').Report} report
 * @property {string} modelUrl
 * @property {number} rounds
 * @property {number} streams how many are open at once
 * @property {(end: () => Promise<unknown>) => void} onEnd registers what is to be ended with the section, the last one first
 */

/**
 * @callback Section
 * @param {Run} run
 * @returns {Promise<void>}
 */

/**
 * Has sides that are compared take turns, in the other order each round, so that what else the machine does meets all of them.
 *
 * @template {Record<string, () => Promise<any>>} Sides
 * @param {number} rounds
 * @param {Sides} sides
 * @returns {Promise<{ [Side in keyof Sides]: Awaited<ReturnType<Sides[Side]>>[] }>} what each came to, round by round
 */
export async function alternate(rounds, sides) {
  const names = Object.keys(sides);
  /** @type {Record<string, any[]>} */
  const results = Object.fromEntries(names.map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 ? names.toReversed() : names) results[name]?.push(await sides[name]?.());
  }
  return /** @type {any} */ (results);
}
