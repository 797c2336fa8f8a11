import { type DocumentedSetting, SETTINGS } from './settings.js';

/** What is written about the settings, made from the settings: .env.example, and the tables of deploy/settings.md. */

const INTRODUCTION = `\
# Settings of Assistly Backend. Every line is optional on a developer's machine: "npm start" runs without any.
# Copy this file to .env and take away the "#" of what you need. What is set in the environment wins over .env.
# A commented line shows the default, or an example where there is none. Times are in milliseconds.
# Written by "npm run docs:settings" from src/config/settings.ts.
`;

/** Beside the settings of the product, which do not include it: what docker-compose.yml reads from the same file. */
const OF_DOCKER_COMPOSE = `
# --- Docker Compose ---

# Password of the PostgreSQL of docker-compose.yml, of letters and digits (openssl rand -hex 24); nothing else reads it
#POSTGRES_PASSWORD=...
# Password of the Redis of docker-compose.yml, of letters and digits (openssl rand -hex 24); nothing else reads it
#REDIS_PASSWORD=...
# Most memory of an api's container; about half of it is for the heap of Node.js
#API_MEMORY=768m
# Most memory of each worker's container
#WORKER_MEMORY=768m
# Most memory of the migrations' container
#MIGRATE_MEMORY=512m
# Most memory of PostgreSQL's container
#POSTGRES_MEMORY=1g
# Most memory of Redis's container, which needs up to twice its data while it rewrites its log
#REDIS_MEMORY=512m
# Most data of Redis, about half of REDIS_MEMORY: beyond, it refuses writes instead of being killed
#REDIS_MAXMEMORY=256mb
`;

const bySection = (): [string, DocumentedSetting[]][] =>
  Object.entries(Object.groupBy(SETTINGS, ({ section }) => section)).map(([section, settings = []]) => [
    section,
    settings,
  ]);

/** The whole file .env.example. */
export function envExample(): string {
  const sections = bySection().map(([section, settings]) => {
    const lines = settings.map(
      ({ name, description, default: value, example }) =>
        `# ${description.replaceAll('`', '')}\n#${name}=${value ?? example ?? ''}\n`,
    );
    return `\n# --- ${section} ---\n\n${lines.join('')}`;
  });
  return `${INTRODUCTION}${sections.join('')}${OF_DOCKER_COMPOSE}`;
}

const BEGIN = '<!-- Written by `npm run docs:settings` from src/config/settings.ts: begin -->';
const END = '<!-- end -->';

/**
 * @param document the text of deploy/settings.md
 * @returns the same with the tables as they are now, formatted as Prettier does it
 */
export function withSettingsTables(document: string): string {
  const [before, , after] = document.split(new RegExp(`(?<=${BEGIN})|(?=${END})`));
  if (before === undefined || after === undefined)
    throw new Error('there is no place for the tables of settings');
  const tables = bySection().map(([section, settings]) => `### ${section}\n\n${table(settings)}`);
  return `${before}\n\n${tables.join('\n\n')}\n\n${after}`;
}

function table(settings: readonly DocumentedSetting[]): string {
  const rows = settings.map(({ name, description, default: value }) => [
    `\`${name}\``,
    value === null ? '–' : `\`${value}\``,
    description,
  ]);
  const lines = [['name', 'default', 'meaning'], ...rows];
  const widths = [0, 1, 2].map((column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const [head, ...body] = lines.map(
    (line) => `| ${line.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`,
  );
  return [head, `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...body].join('\n');
}
