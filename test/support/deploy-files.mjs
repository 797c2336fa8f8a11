// Plain JavaScript, like the programs in .ci that use it as well.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Copy, DockerfileParser } from 'dockerfile-ast';
import { parse } from 'yaml';

/** What the files for deploying say, taken apart: for the tests, and for doing the same without a Docker engine. */

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** @param {string} path */
export const readText = (path) => readFileSync(join(ROOT, path), 'utf8');

/**
 * One instruction of the Dockerfile that does something to the image.
 *
 * @typedef {{ does: 'RUN', command: string }
 *   | { does: 'COPY', from: string | null, sources: string[], destination: string }
 *   | { does: 'ENV', values: Record<string, string> }
 *   | { does: 'WORKDIR' | 'USER', value: string }
 *   | { does: 'EXPOSE', ports: number[] }
 *   | { does: 'CMD' | 'HEALTHCHECK', command: string[] }} Step
 *
 * @typedef {{ name: string, base: string, steps: Step[] }} Stage
 */

/** @returns {Stage[]} in the order of the file; the last one is the image */
export function readDockerfile() {
  /** @type {Stage[]} */
  const stages = [];
  for (const instruction of DockerfileParser.parse(readText('Dockerfile')).getInstructions()) {
    const keyword = instruction.getKeyword();
    const values = instruction.getArguments().map((argument) => argument.getValue());
    if (keyword === 'FROM') {
      const [base = '', , name = ''] = values;
      stages.push({ name, base, steps: [] });
    } else {
      const from = instruction instanceof Copy ? (instruction.getFromFlag()?.getValue() ?? null) : null;
      stages.at(-1)?.steps.push(stepOf(keyword, values, instruction.getArgumentsContent() ?? '', from));
    }
  }
  return stages;
}

/**
 * @param {string} keyword
 * @param {string[]} values
 * @param {string} content
 * @param {string | null} from the stage of a COPY, null for the directory that is built
 * @returns {Step}
 */
function stepOf(keyword, values, content, from) {
  switch (keyword) {
    case 'RUN':
      return { does: keyword, command: content };
    case 'COPY':
      return { does: keyword, from, sources: values.slice(0, -1), destination: values.at(-1) ?? '' };
    case 'ENV':
      return { does: keyword, values: Object.fromEntries(values.map((value) => value.split(/=(.*)/s, 2))) };
    case 'WORKDIR':
    case 'USER':
      return { does: keyword, value: content };
    case 'EXPOSE':
      return { does: keyword, ports: values.map(Number) };
    case 'CMD':
    case 'HEALTHCHECK':
      return { does: keyword, command: JSON.parse(content.slice(content.indexOf('['))) };
    default:
      throw new Error(`the Dockerfile has ${keyword}, of which nothing here knows what it does`);
  }
}

/**
 * docker-compose.yml with its variables filled in.
 *
 * @param {Record<string, string | undefined>} [env]
 */
export function readCompose(env = {}) {
  return parse(substitute(readText('docker-compose.yml'), env), { merge: true });
}

/** The variables that docker-compose.yml takes from .env or the shell. */
export function composeVariables() {
  return [
    ...new Set([...readText('docker-compose.yml').matchAll(/\$\{(\w+)/g)].map(([, name = '']) => name)),
  ];
}

/**
 * `${A}`, `${A:-default}` and `${A:?complaint}`, as Docker Compose reads them.
 *
 * @param {string} text
 * @param {Record<string, string | undefined>} env
 */
function substitute(text, env) {
  return text.replaceAll(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_, name, kind, other) => {
    if (env[name]) return env[name];
    if (kind === '?') throw new Error(`${name} is missing: ${other}`);
    return kind === '-' ? other : '';
  });
}

/** @param {'railway.json' | 'railway.worker.json'} path */
export function readRailway(path) {
  return JSON.parse(readText(path));
}

/** @param {string} duration such as "40s" */
export function secondsOf(duration) {
  const [, number] = /^(\d+)s$/.exec(duration) ?? [];
  if (number === undefined) throw new Error(`"${duration}" is no number of seconds`);
  return Number(number);
}
