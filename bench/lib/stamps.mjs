// Times within texts: how a token that a model has sent is followed to whoever reads it.

const RANGE_MS = 10_000_000;
const STAMP = /#(\d+\.\d)/g;

/** By a clock that all processes of a machine share. */
const clock = () => (performance.timeOrigin + performance.now()) % RANGE_MS;

/** A token. */
export const stamp = () => ` #${clock().toFixed(1)}`;

/** How long ago each token of a text was sent, in milliseconds. @param {string} text @returns {number[]} */
export function agesOf(text) {
  const now = clock();
  return Array.from(text.matchAll(STAMP), ([, sentAt]) => (now - Number(sentAt) + RANGE_MS) % RANGE_MS);
}
