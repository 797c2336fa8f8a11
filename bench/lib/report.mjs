// Results as they come, for people and for programs.
import { median, spread } from './statistics.mjs';

/**
 * @typedef {object} Result
 * @property {string} name
 * @property {number} value median of the rounds
 * @property {string} unit
 * @property {number | null} floor median of the floor's rounds
 * @property {number | null} ratio median of what each round came to: value ÷ floor
 * @property {string | null} backend null: there is no difference
 * @property {[number, number]} spread least and most of the ratio; without a floor of the value
 */

/** @param {number} value three digits that count */
const rounded = (value) => Number(value.toPrecision(3));

export class Report {
  /** @type {Result[]} */
  #results = [];

  /**
   * @param {{ name: string, unit: string, backend?: string | null }} what
   * @param {number[]} values one a round
   * @param {number[]} [floors] of the same rounds
   */
  add({ name, unit, backend = null }, values, floors) {
    const ratios = floors?.map((floor, round) => values[round] / floor);
    const result = {
      name,
      value: rounded(median(values)),
      unit,
      floor: floors ? rounded(median(floors)) : null,
      ratio: ratios ? rounded(median(ratios)) : null,
      backend,
      spread: /** @type {[number, number]} */ (spread(ratios ?? values).map(rounded)),
    };
    this.#results.push(result);
    console.log(lineOf(result));
  }

  /** The table, and a line of JSON for each result. */
  print() {
    const { length } = this.#results;
    if (length === 0) return;
    console.log(
      `\n| figure | backend | measured | floor | ratio (spread) |\n| --- | --- | ---: | ---: | ---: |`,
    );
    for (const result of this.#results) console.log(`| ${cellsOf(result).join(' | ')} |`);
    console.log('');
    for (const result of this.#results) console.log(JSON.stringify(result));
  }
}

/** @param {Result} result */
function cellsOf({ name, value, unit, floor, ratio, backend, spread: [least, most] }) {
  const range = least === most ? '' : ` (${least}–${most})`;
  return [
    name,
    { postgres: 'PostgreSQL', redis: 'Redis' }[backend ?? ''] ?? '',
    `${value.toLocaleString('en')} ${unit}${floor === null ? range : ''}`,
    floor?.toLocaleString('en') ?? '',
    ratio === null ? '' : `${ratio}${range}`,
  ];
}

/** @param {Result} result */
const lineOf = (result) => `  ${cellsOf(result).filter(Boolean).join(' · ')}`;
