import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { ReplyUsage, type UsageOfDay } from '../conversations/reply-store/usage.js';
import { Database } from '../database/database.js';
import { notFound } from '../runtime/app-error.js';
import type { UsageDto, UsageOfDayDto } from './usage.dto.js';

const DAY_MS = 86_400_000;

/** What owners see of what their chatbots use. */
@Injectable()
export class UsageService {
  constructor(
    private readonly database: Database,
    private readonly usage: ReplyUsage,
  ) {}

  /** @throws AppError not_found */
  async read(clerkUserId: string, chatbotId: string, days: number): Promise<UsageDto> {
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select(sql<string>`to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD')`.as('today'))
        .where('id', '=', chatbotId)
        .where('clerk_user_id', '=', clerkUserId)
        .executeTakeFirst(),
    );
    if (!chatbot) throw notFound();
    const uses = await this.usage.read(chatbotId, days);
    const last = Date.parse(chatbot.today);
    return {
      days: Array.from({ length: days }, (_, index) => {
        const date = new Date(last - (days - 1 - index) * DAY_MS).toISOString().slice(0, 10);
        return toDayDto(
          date,
          uses.filter((use) => use.date === date),
        );
      }),
    };
  }
}

function toDayDto(date: string, uses: readonly UsageOfDay[]): UsageOfDayDto {
  const sum = (part: Exclude<keyof UsageOfDay, 'date' | 'model'>): number =>
    uses.reduce((total, use) => total + use[part], 0);
  return {
    date,
    messages: sum('messages'),
    replies: {
      completed: sum('completed'),
      failed: sum('failed'),
      cancelled: sum('cancelled'),
      budget: sum('budget'),
    },
    inputTokens: sum('inputTokens'),
    outputTokens: sum('outputTokens'),
    byModel: Object.fromEntries(
      uses
        .filter(({ model }) => model !== '')
        .map(({ model, completed, failed, cancelled, inputTokens, outputTokens }) => [
          model,
          { replies: completed + failed + cancelled, inputTokens, outputTokens },
        ]),
    ),
  };
}
