/** Numbers that a seed repeats: the decisions of a round can be made again, their timing cannot. */
export class Random {
  /** @param {number} seed */
  constructor(seed) {
    this.state = seed >>> 0;
  }

  /** From 0 to below 1 (mulberry32). */
  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** @param {number} min @param {number} max */
  between(min, max) {
    return min + this.next() * (max - min);
  }

  /** A whole number, both ends included. @param {number} min @param {number} max */
  integer(min, max) {
    return Math.floor(this.between(min, max + 1));
  }

  /** @param {number} share */
  chance(share) {
    return this.next() < share;
  }

  /** Exponentially distributed. @param {number} mean */
  pause(mean) {
    return -Math.log(1 - this.next()) * mean;
  }

  /** @template T @param {readonly T[]} items @returns {T} */
  pick(items) {
    return items[Math.floor(this.next() * items.length)];
  }

  /** One of the names, by its weight. @param {Record<string, number>} weights @returns {string} */
  weighted(weights) {
    const entries = Object.entries(weights);
    let rest = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight] of entries) {
      rest -= weight;
      if (rest < 0) return name;
    }
    return entries[entries.length - 1][0];
  }

  /** A generator of its own, so that what it is used for does not shift the others. */
  fork() {
    return new Random(Math.floor(this.next() * 4_294_967_296));
  }
}

/** @param {string} text */
export function hash(text) {
  let value = 2_166_136_261;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 16_777_619);
  return value >>> 0;
}
