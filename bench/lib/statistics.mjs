// What many measured numbers come to.

/** @param {number[]} values @param {number} part 0.99: of a hundred values 99 are not above it */
export function percentile(values, part) {
  if (values.length === 0) throw new Error('nothing was measured');
  const sorted = values.toSorted((a, b) => a - b);
  return /** @type {number} */ (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]);
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2
    ? percentile(sorted, 0.5)
    : (Number(sorted[middle - 1]) + Number(sorted[middle])) / 2;
}

/** @param {number[]} values @returns {[number, number]} the least and the most */
export const spread = (values) => [Math.min(...values), Math.max(...values)];
