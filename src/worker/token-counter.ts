import { Injectable } from '@nestjs/common';
import { sql } from 'kysely';
import { characteristicPart, instructionsPart } from '../chatbots/prompt-room.js';
import { chatbotsToCount } from '../chatbots/uncounted-texts.js';
import { Database, runOn } from '../database/database.js';
import { countTokensGently } from '../llm/tokens.js';
import { Breather } from '../runtime/breather.js';
import { Shutdown } from '../runtime/shutdown.js';

/** How many chatbots one look for uncounted texts brings. */
const BATCH = 50;
/** Longest that one job goes on, in milliseconds; the next one takes what is left. */
const JOB_MS = 20_000;

/**
 * Counts the tokens of what owners wrote, once for each text: a prompt then adds up stored numbers. A text that changes
 * while it is counted stays uncounted. May be at work in several processes at once, on the same texts.
 */
@Injectable()
export class TokenCounter {
  private readonly counting = new Map<string, Promise<void>>();

  constructor(
    private readonly database: Database,
    private readonly shutdown: Shutdown,
  ) {}

  /** Counts whatever is uncounted, one chatbot after the other, for a bounded time. */
  async countAll(): Promise<void> {
    const end = performance.now() + JOB_MS;
    for (;;) {
      const chatbotIds = await this.database.read((db) => chatbotsToCount(db, BATCH));
      if (chatbotIds.length === 0) return;
      for (const chatbotId of chatbotIds) {
        if (this.shutdown.signal.aborted || performance.now() > end) return;
        await this.count(chatbotId);
      }
    }
  }

  /** Counts what is uncounted of a chatbot: once, however many ask for it at the same time. */
  async count(chatbotId: string): Promise<void> {
    const running = this.counting.get(chatbotId);
    if (running) return running;
    const run = this.countTexts(chatbotId).finally(() => this.counting.delete(chatbotId));
    this.counting.set(chatbotId, run);
    return run;
  }

  private async countTexts(chatbotId: string): Promise<void> {
    const breather = new Breather();
    await this.countInstructions(chatbotId, breather);
    await this.countCharacteristics(chatbotId, breather);
  }

  private async countInstructions(chatbotId: string, breather: Breather): Promise<void> {
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select('instructions')
        .where('id', '=', chatbotId)
        .where('instructions', 'is not', null)
        .where('is_counted', '=', false)
        .executeTakeFirst(),
    );
    if (!chatbot?.instructions) return;
    const { instructions } = chatbot;
    const tokens = await countTokensGently(instructionsPart(instructions), breather);
    await this.database.write(
      (db) =>
        db
          .updateTable('chatbots')
          .set({ instructions_tokens: tokens, is_counted: true })
          .where('id', '=', chatbotId)
          .where('instructions', '=', instructions)
          .execute(),
      { isRepeatable: true },
    );
  }

  private async countCharacteristics(chatbotId: string, breather: Breather): Promise<void> {
    const characteristics = await this.database.read((db) =>
      db
        .selectFrom('chatbot_characteristics')
        .select(['id', 'content', sql<string>`hashtextextended(content, 0)`.as('digest')])
        .where('chatbot_id', '=', chatbotId)
        .where('is_counted', '=', false)
        .execute(),
    );
    if (characteristics.length === 0) return;
    const counts: { id: string; digest: string; tokens: number }[] = [];
    for (const { id, digest, content } of characteristics) {
      counts.push({ id, digest, tokens: await countTokensGently(characteristicPart(content), breather) });
    }
    await this.database.write(
      (db) =>
        runOn(
          db,
          sql`
        update chatbot_characteristics as c set tokens = counted.tokens, is_counted = true
        from jsonb_to_recordset(${JSON.stringify(counts)}::jsonb) as counted(id uuid, digest bigint, tokens int)
        where c.id = counted.id and hashtextextended(c.content, 0) = counted.digest`,
        ),
      { isRepeatable: true },
    );
  }
}
