import { Inject, Injectable } from '@nestjs/common';
import { type Expression, type Insertable, sql } from 'kysely';
import { requireChatbot } from './owned-chatbot.js';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { AppError, type FieldError, notFound } from '../runtime/app-error.js';
import { allowedModels } from '../llm/allowed-models.js';
import { createIdentitySecret } from '../auth/identity-tokens.js';
import { newId } from '../database/columns.js';
import { decodeCursor, isTimeKey, type Page, type PageRequest, toPage } from '../http/page.js';
import { Database, isoTime, now } from '../database/database.js';
import { type IdempotentRequest, once } from '../database/idempotency.js';
import type { Tables, Tx } from '../database/tables.js';
import { Breather } from '../runtime/breather.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import {
  type CharacteristicTotals,
  type ChatbotCharacteristicDto,
  type ChatbotDto,
  type ChatbotSummaryDto,
  type CreateChatbotDto,
  MAX_CHARACTERISTICS,
  type PublicChatbotDto,
  toCharacteristicDto,
  toChatbotDto,
  toChatbotSummaryDto,
  type UpdateChatbotDto,
} from './chatbot.dto.js';
import { type StoredAppearance, toAppearanceDto, type WrittenAppearanceDto } from './appearance.js';
import type { LimitSettings, OwnLimits } from '../limits/limit-names.js';
import { excessOf, type WrittenLimits } from './own-limits.js';
import { tokensOfCharacteristic, tokensOfInstructions } from './prompt-room.js';

/** How long a secret is good after the next was made. */
const PREVIOUS_SECRET_HOURS = 24;

/** Chatbots and their characteristics. Whose a chatbot is stands in the WHERE of every statement. */
@Injectable()
export class ChatbotsService {
  constructor(
    private readonly database: Database,
    @Inject(CONFIG)
    private readonly config: Pick<
      Config,
      | 'CONTEXT_MAX_TOKENS'
      | 'ALLOWED_MODELS'
      | 'OPENAI_MODEL'
      | 'OPENAI_FALLBACK_MODEL'
      | 'DAILY_TOKEN_BUDGET_MAX'
      | 'RETENTION_DAYS_MAX'
      | 'LIMIT_CHATBOTS_PER_OWNER'
    > &
      LimitSettings,
    @Inject(TIMINGS) private readonly timings: Pick<Timings, 'idempotencyWaitMs'>,
  ) {}

  /** @throws AppError invalid_request where the operator does not allow it; limit_reached; the idempotency errors */
  async create(
    clerkUserId: string,
    dto: CreateChatbotDto,
    idempotent: IdempotentRequest | null,
  ): Promise<{ chatbot: ChatbotDto; isReplay: boolean }> {
    this.refuseForbidden(dto);
    const contents: ContentColumns[] = [];
    const breather = new Breather();
    for (const content of dto.characteristics ?? []) {
      contents.push(contentColumns(content));
      await breather.pause();
    }
    const { result, isReplay } = await this.database.transaction((tx) =>
      once(tx, idempotent, this.timings.idempotencyWaitMs, async () => ({
        chatbotId: await this.insert(tx, clerkUserId, dto, contents),
      })),
    );
    return { chatbot: await this.get(clerkUserId, result.chatbotId), isReplay };
  }

  private async insert(
    tx: Tx,
    clerkUserId: string,
    dto: CreateChatbotDto,
    contents: readonly ContentColumns[],
  ): Promise<string> {
    await this.refuseOneMore(tx, clerkUserId);
    const chatbot = await tx
      .insertInto('chatbots')
      .values({
        id: newId(),
        clerk_user_id: clerkUserId,
        name: dto.name,
        greeting: dto.greeting,
        model: dto.model,
        ...instructionsColumns(dto.instructions),
        ...(dto.isEnabled !== undefined && { is_enabled: dto.isEnabled }),
        ...(dto.allowedOrigins && { allowed_origins: dto.allowedOrigins }),
        ...(dto.limits && { limits: mergedLimits(sql`'{}'::jsonb`, dto.limits) }),
        retention_days: dto.retentionDays,
        daily_token_budget: dto.dailyTokenBudget,
        unavailable_message: dto.unavailableMessage,
        ...(dto.requireIdentity !== undefined && { requires_identity: dto.requireIdentity }),
        ...(dto.appearance && { appearance: mergedAppearance(sql`'{}'::jsonb`, dto.appearance) }),
      })
      .returning(['id', 'created_at'])
      .executeTakeFirstOrThrow();
    // One time for all of them leaves their order to their ids, which are made in order.
    const characteristics = contents.map((content) => ({
      id: newId(),
      chatbot_id: chatbot.id,
      ...content,
      created_at: chatbot.created_at,
    }));
    if (characteristics.length > 0) {
      await tx.insertInto('chatbot_characteristics').values(characteristics).execute();
    }
    return chatbot.id;
  }

  /** @throws AppError limit_reached */
  private async refuseOneMore(tx: Tx, clerkUserId: string): Promise<void> {
    // One after the other, so that two at once cannot both be the last that fits.
    await sql`select pg_advisory_xact_lock(hashtextextended(${`chatbots ${clerkUserId}`}, 0))`.execute(tx);
    const { LIMIT_CHATBOTS_PER_OWNER: max } = this.config;
    const { count } = await tx
      .selectFrom('chatbots')
      .select((eb) => eb.cast<number>(eb.fn.countAll(), 'integer').as('count'))
      .where('clerk_user_id', '=', clerkUserId)
      .executeTakeFirstOrThrow();
    if (count >= max) throw new AppError('limit_reached', `An owner has at most ${max} chatbots.`);
  }

  async list(clerkUserId: string, page: PageRequest): Promise<Page<ChatbotSummaryDto>> {
    const list = `chatbots:${clerkUserId}`;
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.read((db) => {
      const query = db.selectFrom('chatbots as c').selectAll().where('c.clerk_user_id', '=', clerkUserId);
      return (
        after
          ? query.where((eb) => eb(eb.refTuple('c.created_at', 'c.id'), '<', eb.tuple(...after))) // one range of the index
          : query
      )
        .orderBy('c.created_at', 'desc')
        .orderBy('c.id', 'desc')
        .limit(page.limit + 1)
        .execute();
    });
    const totals = await this.totalsOf(rows.map(({ id }) => id));
    return toPage(
      rows,
      page.limit,
      list,
      (row) => [isoTime(row.created_at), row.id],
      (row) =>
        toChatbotSummaryDto(
          row,
          totals.get(row.id) ?? { count: 0, tokens: 0 },
          this.config.CONTEXT_MAX_TOKENS,
        ),
    );
  }

  private async totalsOf(ids: string[]): Promise<Map<string, CharacteristicTotals>> {
    if (ids.length === 0) return new Map();
    const totals = await this.database.read((db) =>
      db
        .selectFrom('chatbot_characteristics')
        .select((eb) => [
          'chatbot_id',
          eb.cast<number>(eb.fn.countAll(), 'integer').as('count'),
          // A text that a version before wrote has no tokens yet: it has no more than four times its bytes, tags and all.
          eb
            .cast<number>(
              eb.fn.sum(eb.fn.coalesce('tokens', sql<number>`64 + 4 * octet_length(content)`)),
              'integer',
            )
            .as('tokens'),
        ])
        .where('chatbot_id', 'in', ids)
        .groupBy('chatbot_id')
        .execute(),
    );
    return new Map(totals.map(({ chatbot_id, ...total }) => [chatbot_id, total]));
  }

  async get(clerkUserId: string, id: string): Promise<ChatbotDto> {
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .selectAll()
        .where('id', '=', id)
        .where('clerk_user_id', '=', clerkUserId)
        .executeTakeFirst(),
    );
    if (!chatbot) throw notFound();
    const characteristics = await this.database.read((db) =>
      db
        .selectFrom('chatbot_characteristics')
        .selectAll()
        .where('chatbot_id', '=', id)
        .orderBy('created_at')
        .orderBy('id')
        .execute(),
    );
    return toChatbotDto(chatbot, characteristics, this.config.CONTEXT_MAX_TOKENS);
  }

  async getPublic(id: string): Promise<PublicChatbotDto> {
    const chatbot = await this.database.read((db) =>
      db
        .selectFrom('chatbots')
        .select(['id', 'name', 'greeting', 'is_enabled', 'requires_identity', 'appearance'])
        .where('id', '=', id)
        .executeTakeFirst(),
    );
    if (!chatbot) throw notFound();
    const { is_enabled: isEnabled, requires_identity: requireIdentity, appearance, ...face } = chatbot;
    return { ...face, isEnabled, requireIdentity, appearance: toAppearanceDto(appearance) };
  }

  /** @throws AppError not_found; invalid_request where the operator does not allow it */
  async update(clerkUserId: string, id: string, dto: UpdateChatbotDto): Promise<ChatbotDto> {
    this.refuseForbidden(dto);
    const changes = {
      name: dto.name,
      greeting: dto.greeting,
      model: dto.model,
      ...instructionsColumns(dto.instructions),
      is_enabled: dto.isEnabled,
      allowed_origins: dto.allowedOrigins,
      limits: dto.limits ? mergedLimits(sql.ref('limits'), dto.limits) : dto.limits,
      retention_days: dto.retentionDays,
      daily_token_budget: dto.dailyTokenBudget,
      unavailable_message: dto.unavailableMessage,
      requires_identity: dto.requireIdentity,
      appearance: dto.appearance && mergedAppearance(sql.ref('appearance'), dto.appearance),
    };
    if (Object.values(changes).some((value) => value !== undefined)) {
      const changed = await this.database.write((db) =>
        db
          .updateTable('chatbots')
          .set({ ...changes, updated_at: now }) // but for what is undefined
          .where('id', '=', id)
          .where('clerk_user_id', '=', clerkUserId)
          .returning('id')
          .executeTakeFirst(),
      );
      if (!changed) throw notFound();
    }
    return this.get(clerkUserId, id);
  }

  /**
   * Makes a new secret by which the owner's server vouches for people. The one before stays good for a day, so that the
   * server can be given the new one meanwhile, unless it is revoked.
   *
   * @throws AppError not_found
   */
  async rotateIdentitySecret(clerkUserId: string, id: string, revokesPrevious: boolean): Promise<string> {
    const secret = createIdentitySecret();
    const changed = await this.database.write((db) =>
      db
        .updateTable('chatbots')
        .set({
          identity_secret: secret,
          previous_identity_secret: revokesPrevious ? null : sql.ref('identity_secret'),
          previous_identity_secret_until: revokesPrevious
            ? null
            : sql<string>`${now} + ${PREVIOUS_SECRET_HOURS} * interval '1 hour'`,
        })
        .where('id', '=', id)
        .where('clerk_user_id', '=', clerkUserId)
        .returning('id')
        .executeTakeFirst(),
    );
    if (!changed) throw notFound();
    return secret;
  }

  /** What the operator's settings leave to owners. */
  private refuseForbidden(dto: UpdateChatbotDto): void {
    const { model, limits } = dto;
    const models = allowedModels(this.config);
    const errors: FieldError[] = [];
    if (typeof model === 'string' && models?.includes(model) === false) {
      errors.push({ pointer: '/model', message: `must be one of ${models.join(', ')}, or null` });
    }
    const maxima = {
      dailyTokenBudget: this.config.DAILY_TOKEN_BUDGET_MAX,
      retentionDays: this.config.RETENTION_DAYS_MAX,
    };
    for (const [field, max] of Object.entries(maxima)) {
      const value = dto[field as keyof typeof maxima];
      if (typeof value === 'number' && max !== undefined && value > max) {
        errors.push({ pointer: `/${field}`, message: `must be at most ${max} on this server` });
      }
    }
    const excess = limits ? excessOf(limits, this.config) : null;
    if (excess !== null) errors.push({ pointer: '/limits', message: excess });
    if (errors.length > 0) {
      throw new AppError('invalid_request', 'The server is not configured to allow this.', { errors });
    }
  }

  async addCharacteristic(
    clerkUserId: string,
    chatbotId: string,
    content: string,
  ): Promise<ChatbotCharacteristicDto> {
    return this.database.transaction(async (tx) => {
      // Locked, so that two additions at once cannot both be the last that fits.
      const chatbot = await tx
        .selectFrom('chatbots')
        .select('id')
        .where('id', '=', chatbotId)
        .where('clerk_user_id', '=', clerkUserId)
        .forUpdate()
        .executeTakeFirst();
      if (!chatbot) throw notFound();
      const { count } = await tx
        .selectFrom('chatbot_characteristics')
        .select((eb) => eb.cast<number>(eb.fn.countAll(), 'integer').as('count'))
        .where('chatbot_id', '=', chatbotId)
        .executeTakeFirstOrThrow();
      if (count >= MAX_CHARACTERISTICS) {
        throw new AppError('limit_reached', `A chatbot has at most ${MAX_CHARACTERISTICS} characteristics.`);
      }
      const characteristic = await tx
        .insertInto('chatbot_characteristics')
        .values({ id: newId(), chatbot_id: chatbotId, ...contentColumns(content) })
        .returningAll()
        .executeTakeFirstOrThrow();
      return toCharacteristicDto(characteristic);
    });
  }

  async listCharacteristics(
    clerkUserId: string,
    chatbotId: string,
    page: PageRequest,
  ): Promise<Page<ChatbotCharacteristicDto>> {
    const list = `characteristics:${chatbotId}`;
    await requireChatbot(this.database, clerkUserId, chatbotId);
    const after = page.cursor === undefined ? null : decodeCursor(list, page.cursor, isTimeKey);
    const rows = await this.database.read((db) => {
      const query = db.selectFrom('chatbot_characteristics').selectAll().where('chatbot_id', '=', chatbotId);
      return (
        after ? query.where((eb) => eb(eb.refTuple('created_at', 'id'), '>', eb.tuple(...after))) : query
      )
        .orderBy('created_at')
        .orderBy('id')
        .limit(page.limit + 1)
        .execute();
    });
    return toPage(rows, page.limit, list, (row) => [isoTime(row.created_at), row.id], toCharacteristicDto);
  }

  async updateCharacteristic(
    clerkUserId: string,
    chatbotId: string,
    id: string,
    content: string,
  ): Promise<ChatbotCharacteristicDto> {
    const characteristic = await this.database.write((db) =>
      db
        .updateTable('chatbot_characteristics')
        .set(contentColumns(content))
        .where('id', '=', id)
        .where('chatbot_id', '=', (eb) =>
          eb
            .selectFrom('chatbots')
            .select('id')
            .where('id', '=', chatbotId)
            .where('clerk_user_id', '=', clerkUserId),
        )
        .returningAll()
        .executeTakeFirst(),
    );
    if (!characteristic) throw notFound();
    return toCharacteristicDto(characteristic);
  }

  async deleteCharacteristic(clerkUserId: string, chatbotId: string, id: string): Promise<void> {
    const deleted = await this.database.write((db) =>
      db
        .deleteFrom('chatbot_characteristics')
        .where('id', '=', id)
        .where('chatbot_id', '=', (eb) =>
          eb
            .selectFrom('chatbots')
            .select('id')
            .where('id', '=', chatbotId)
            .where('clerk_user_id', '=', clerkUserId),
        )
        .returning('id')
        .executeTakeFirst(),
    );
    if (!deleted) throw notFound();
  }
}

/** Those of before, with what is named now; null where none is left. */
const mergedLimits = (before: Expression<unknown>, written: WrittenLimits) =>
  sql<OwnLimits | null>`nullif(
    jsonb_strip_nulls(coalesce(${before}, '{}'::jsonb) || ${JSON.stringify(written)}::jsonb), '{}'::jsonb)`;

/** What was, with what is named now. */
const mergedAppearance = (before: Expression<unknown>, written: WrittenAppearanceDto) =>
  sql<StoredAppearance>`jsonb_strip_nulls(${before} || ${JSON.stringify(written)}::jsonb)`;

/** A text, with what it takes of a prompt at most: a worker counts it. */
type ContentColumns = Required<
  Pick<Insertable<Tables['chatbot_characteristics']>, 'content' | 'tokens' | 'is_counted'>
>;

const contentColumns = (content: string): ContentColumns => ({
  content,
  tokens: tokensOfCharacteristic(content),
  is_counted: false,
});

/** @param instructions undefined: they stay as they are */
const instructionsColumns = (instructions: string | null | undefined) =>
  instructions === undefined
    ? {}
    : {
        instructions,
        instructions_tokens: instructions === null ? null : tokensOfInstructions(instructions),
        is_counted: false,
      };
