import { Inject, Injectable } from '@nestjs/common';
import type { SqlEntityManager } from '@mikro-orm/postgresql';
import { sql } from 'kysely';
import { AppError, notFound } from '../common/app-error.js';
import { newId } from '../common/columns.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../common/page.js';
import { Database, runOn } from '../database/database.js';
import { type IdempotentRequest, once } from '../limits/idempotency.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import {
  type ChatbotCharacteristicDto,
  type ChatbotDto,
  type ChatbotSummaryDto,
  type CreateChatbotDto,
  MAX_CHARACTERISTICS,
  type PublicChatbotDto,
  toCharacteristicDto,
  toChatbotDto,
  toChatbotSummaryDto,
  toPublicChatbotDto,
  type UpdateChatbotDto,
} from './chatbot.dto.js';
import { Chatbot } from './chatbot.entity.js';
import { ChatbotCharacteristic } from './chatbot-characteristic.entity.js';

/**
 * Chatbots and their characteristics. Whose a chatbot is stands in the WHERE of every query. What people wrote is
 * stored by SQL with bound parameters: the ORM writes values into its statements, and PostgreSQL logs a statement that
 * fails.
 */
@Injectable()
export class ChatbotsService {
  constructor(
    private readonly database: Database,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'idempotencyWaitMs'>,
  ) {}

  /** @throws AppError the idempotency errors */
  async create(
    clerkUserId: string,
    dto: CreateChatbotDto,
    idempotent: IdempotentRequest | null,
  ): Promise<{ chatbot: ChatbotDto; isReplay: boolean }> {
    const { result, isReplay } = await this.database.transaction((em) =>
      once(em, idempotent, this.timings.idempotencyWaitMs, async () => ({
        chatbotId: await this.insert(em, clerkUserId, dto),
      })),
    );
    return { chatbot: await this.get(clerkUserId, result.chatbotId), isReplay };
  }

  private async insert(em: SqlEntityManager, clerkUserId: string, dto: CreateChatbotDto): Promise<string> {
    const chatbotId = newId();
    await runOn(
      em,
      sql`
        insert into chatbots (id, clerk_user_id, name, greeting, model)
        values (${chatbotId}, ${clerkUserId}, ${dto.name}, ${dto.greeting ?? null}, ${dto.model ?? null})`,
    );
    const contents = dto.characteristics ?? [];
    // One time for all of them would leave their order to their ids; those are made in order.
    await runOn(
      em,
      sql`
        insert into chatbot_characteristics (id, chatbot_id, content, created_at)
        select new.id, c.id, new.content, c.created_at
        from chatbots c, unnest(${contents.map(() => newId())}::uuid[], ${contents}::text[]) as new (id, content)
        where c.id = ${chatbotId}`,
    );
    return chatbotId;
  }

  async list(clerkUserId: string, page: PageRequest): Promise<Page<ChatbotSummaryDto>> {
    const list = `chatbots:${clerkUserId}`;
    const em = this.database.fork();
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const query = em
      .createQueryBuilder(Chatbot, 'c')
      .where({ clerkUserId })
      .orderBy({ createdAt: 'desc', id: 'desc' })
      .limit(page.limit + 1);
    if (after) query.andWhere('(c.created_at, c.id) < (?, ?)', [...after]); // one range of the index
    const rows = await query.getResultList();
    const ids = rows.map((row) => row.id);
    const counts =
      ids.length === 0
        ? []
        : await runOn(
            em,
            sql<{ chatbot_id: string; count: number }>`
              select chatbot_id, count(*)::int as count from chatbot_characteristics
              where chatbot_id in (${sql.join(ids)}) group by chatbot_id`,
          );
    const countOf = new Map(counts.map(({ chatbot_id, count }) => [chatbot_id, count]));
    return toPage(
      rows,
      page.limit,
      list,
      (row) => [row.createdAt.toISOString(), row.id],
      (row) => toChatbotSummaryDto(row, countOf.get(row.id) ?? 0),
    );
  }

  async get(clerkUserId: string, id: string): Promise<ChatbotDto> {
    const em = this.database.fork();
    const chatbot = await em.findOne(Chatbot, { id, clerkUserId });
    if (!chatbot) throw notFound();
    const characteristics = await em.find(
      ChatbotCharacteristic,
      { chatbot: id },
      { orderBy: { createdAt: 'asc', id: 'asc' } },
    );
    return toChatbotDto(chatbot, characteristics);
  }

  async getPublic(id: string): Promise<PublicChatbotDto> {
    const chatbot = await this.database.fork().findOne(Chatbot, { id });
    if (!chatbot) throw notFound();
    return toPublicChatbotDto(chatbot);
  }

  async update(clerkUserId: string, id: string, dto: UpdateChatbotDto): Promise<ChatbotDto> {
    const changes = [
      ...(dto.name !== undefined ? [sql`name = ${dto.name}`] : []),
      ...(dto.greeting !== undefined ? [sql`greeting = ${dto.greeting}`] : []),
      ...(dto.model !== undefined ? [sql`model = ${dto.model}`] : []),
    ];
    if (changes.length > 0) {
      const rows = await this.database.run(
        sql`
          update chatbots set ${sql.join(changes)}, updated_at = clock_timestamp()
          where id = ${id} and clerk_user_id = ${clerkUserId}
          returning id`,
      );
      if (rows.length === 0) throw notFound();
    }
    return this.get(clerkUserId, id);
  }

  async addCharacteristic(
    clerkUserId: string,
    chatbotId: string,
    content: string,
  ): Promise<ChatbotCharacteristicDto> {
    return this.database.transaction(async (em) => {
      // Locked, so that two additions at once cannot both be the last that fits.
      const [chatbot] = await runOn(
        em,
        sql<{ id: string }>`
          select id from chatbots where id = ${chatbotId} and clerk_user_id = ${clerkUserId} for update`,
      );
      if (!chatbot) throw notFound();
      if ((await em.count(ChatbotCharacteristic, { chatbot: chatbotId })) >= MAX_CHARACTERISTICS) {
        throw new AppError('limit_reached', `A chatbot has at most ${MAX_CHARACTERISTICS} characteristics.`);
      }
      const id = newId();
      await runOn(
        em,
        sql`insert into chatbot_characteristics (id, chatbot_id, content) values (${id}, ${chatbotId}, ${content})`,
      );
      return toCharacteristicDto(await em.findOneOrFail(ChatbotCharacteristic, { id }));
    });
  }

  async listCharacteristics(
    clerkUserId: string,
    chatbotId: string,
    page: PageRequest,
  ): Promise<Page<ChatbotCharacteristicDto>> {
    const list = `characteristics:${chatbotId}`;
    const em = this.database.fork();
    if ((await em.count(Chatbot, { id: chatbotId, clerkUserId })) === 0) throw notFound();
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const query = em
      .createQueryBuilder(ChatbotCharacteristic, 'c')
      .where({ chatbot: chatbotId })
      .orderBy({ createdAt: 'asc', id: 'asc' })
      .limit(page.limit + 1);
    if (after) query.andWhere('(c.created_at, c.id) > (?, ?)', [...after]);
    const rows = await query.getResultList();
    return toPage(
      rows,
      page.limit,
      list,
      (row) => [row.createdAt.toISOString(), row.id],
      toCharacteristicDto,
    );
  }

  async updateCharacteristic(
    clerkUserId: string,
    chatbotId: string,
    id: string,
    content: string,
  ): Promise<ChatbotCharacteristicDto> {
    const em = this.database.fork();
    await runOn(
      em,
      sql`
        update chatbot_characteristics set content = ${content}
        where id = ${id} and chatbot_id = (
          select id from chatbots where id = ${chatbotId} and clerk_user_id = ${clerkUserId})`,
    );
    const characteristic = await em.findOne(ChatbotCharacteristic, {
      id,
      chatbot: { id: chatbotId, clerkUserId },
    });
    if (!characteristic) throw notFound();
    return toCharacteristicDto(characteristic);
  }

  async deleteCharacteristic(clerkUserId: string, chatbotId: string, id: string): Promise<void> {
    const count = await this.database.fork().nativeDelete(ChatbotCharacteristic, {
      id,
      chatbot: { id: chatbotId, clerkUserId },
    });
    if (count === 0) throw notFound();
  }
}
