import { NestFactory } from '@nestjs/core';
import { Module } from '@nestjs/common';
import { ormOptions } from '../../mikro-orm.config.js';
import { ConfigModule } from '../config/config.module.js';
import { ConfigError, loadConfig, loadEnvFile, Role, STATE_DIR } from '../config/env.js';
import { type LifeStep, type ReplyLife, ReplyLives } from '../conversations/reply-life.js';
import { DatabaseModule } from '../database/database.module.js';
import { EventsModule } from '../events/events.module.js';
import { errorMessage } from '../runtime/error-code.js';

/**
 * `npm run -s reply -- <id>`: what happened to a reply, as its row tells. The id may be that of the reply, of one of its
 * messages, of its session, or of the request that asked for it (`X-Request-Id`).
 */
loadEnvFile();
const [id] = process.argv.slice(2);
if (id === undefined || id.trim() === '') {
  console.error('Usage: npm run -s reply -- <id of a reply, message, session or request>');
  process.exitCode = 2;
} else {
  try {
    const lives = await search(id.trim());
    if (lives.length === 0) {
      console.error(`No reply has to do with ${id}.`);
      process.exitCode = 1;
    } else {
      console.log(lives.map(toText).join('\n'));
    }
  } catch (error) {
    console.error(error instanceof ConfigError ? error.message : `Not found out: ${errorMessage(error)}`);
    process.exitCode = 1;
  }
}

async function search(of: string): Promise<ReplyLife[]> {
  const DATABASE_URL = process.env['DATABASE_URL']?.trim() || (await embeddedUrl());
  const ofRedis = Object.entries(process.env).filter(([name]) => name.startsWith('REDIS_'));
  const config = loadConfig(Role.All, { ...Object.fromEntries(ofRedis), DATABASE_URL, LOG_LEVEL: 'silent' });

  @Module({
    imports: [
      ConfigModule.forRoot(config, {}),
      DatabaseModule.withOptions(ormOptions),
      DatabaseModule,
      EventsModule,
    ],
    providers: [ReplyLives],
  })
  class LookupModule {}

  const app = await NestFactory.createApplicationContext(LookupModule, {
    logger: false,
    abortOnError: false,
  });
  try {
    return await app.get(ReplyLives).search(of);
  } finally {
    await app.close();
  }
}

/** The database of an `npm start` that runs in this clone. */
async function embeddedUrl(): Promise<string> {
  const { findEmbeddedPostgres } = await import('../dev/embedded-postgres/embedded-postgres.js');
  const url = await findEmbeddedPostgres(STATE_DIR);
  if (url === null) throw new ConfigError(['DATABASE_URL is missing, and no "npm start" runs in this clone']);
  return url;
}

function toText({ reply, steps }: ReplyLife): string {
  const head = `reply ${reply.id}: ${reply.status}, attempt ${reply.attempt}, session ${reply.chatSessionId}`;
  return `${[head, ...steps.map((step, index) => lineOf(step, steps[index - 1]))].join('\n')}\n`;
}

/** @param before what happened last: the time since then stands before each step */
function lineOf(step: LifeStep, before: LifeStep | undefined): string {
  const sinceMs = before === undefined ? null : Date.parse(step.at) - Date.parse(before.at);
  const details = Object.entries({
    attempt: step.attempt,
    worker: step.worker,
    model: step.model,
    reason: step.reason,
    by: step.actor,
  }).flatMap(([name, value]) => (value === null ? [] : `${name} ${value}`));
  const since = sinceMs === null ? '' : `+${sinceMs} ms`;
  return `  ${step.at}  ${since.padStart(12)}  ${step.step.padEnd(16)}  ${details.join(', ')}`.trimEnd();
}
