import { Injectable } from '@nestjs/common';
import type { Expression, ExpressionBuilder, SqlBool } from 'kysely';
import { EventStream, type LoggedFact } from '../events/event-stream.js';
import { Database, isoTime, isoTimeOrNull } from '../database/database.js';
import type { Tables } from '../database/tables.js';
import { MessageSender } from './message.entity.js';
import { messageId, type ReplyDto, type ReplyRow, toReplyDto } from './reply.dto.js';

/** What may have happened to a reply. */
export const LifeStepName = {
  /** A message that it answers was stored. */
  Posted: 'posted',
  /** The reply was made. */
  Queued: 'queued',
  /** A job for it was enqueued, or is due; the newest of them. */
  Dispatched: 'dispatched',
  /** A worker claimed it: an attempt began. */
  Claimed: 'claimed',
  /** The first text of the attempt was stored. */
  FirstToken: 'first_token',
  /** An attempt ended, and another was to follow. */
  AttemptEnded: 'attempt_ended',
  CancelRequested: 'cancel_requested',
  Completed: 'completed',
  Failed: 'failed',
  Cancelled: 'cancelled',
  /** Its end stood in the event stream. */
  Published: 'published',
  /** An event stood in the event stream, which tells it to all who watch; known as long as the stream keeps it. */
  Told: 'told',
} as const;
export type LifeStepName = (typeof LifeStepName)[keyof typeof LifeStepName];

export interface LifeStep {
  /** ISO 8601, by PostgreSQL's clock. */
  at: string;
  step: LifeStepName;
  attempt: number | null;
  /** `host/pid` of the worker. */
  worker: string | null;
  model: string | null;
  /** An error code, why a worker did not end its attempt, why the text ended, or which event was told. */
  reason: string | null;
  /** Who asked for it. */
  actor: string | null;
}

export interface ReplyLife {
  reply: ReplyDto;
  /** In order. */
  steps: LifeStep[];
}

/** A caller may have given many requests the same id, and a session may have many replies. */
const MAX_LIVES = 20;

/** Tells from the rows what happened to a reply; no text. */
@Injectable()
export class ReplyLives {
  constructor(
    private readonly database: Database,
    private readonly stream: EventStream,
  ) {}

  /** @returns null where there is no such reply */
  async find(replyId: string): Promise<ReplyLife | null> {
    const rows = await this.database.read((db) =>
      db.selectFrom('replies').selectAll().select(messageId).where('id', '=', replyId).execute(),
    );
    const [life = null] = await this.livesOf(rows);
    return life;
  }

  /**
   * The replies that an id leads to, the newest first: a reply's own, a message's, a session's or a request's.
   *
   * @returns at most the newest 20
   */
  async search(id: string): Promise<ReplyLife[]> {
    const isUuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id);
    const byIds = isUuid
      ? await this.newest((eb) =>
          eb.or([
            eb('id', '=', id),
            eb('chat_session_id', '=', id),
            eb(
              'id',
              '=',
              eb.selectFrom('messages').select('messages.reply_id').where('messages.id', '=', id),
            ),
          ]),
        )
      : [];
    // Requests have no index, since nobody else asks by them: only where nothing else is found are all rows read.
    return this.livesOf(byIds.length > 0 ? byIds : await this.newest((eb) => eb('request_id', '=', id)));
  }

  private newest(
    where: (eb: ExpressionBuilder<Tables, 'replies'>) => Expression<SqlBool>,
  ): Promise<ReplyRow[]> {
    return this.database.read((db) =>
      db
        .selectFrom('replies')
        .selectAll()
        .select(messageId)
        .where(where)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(MAX_LIVES)
        .execute(),
    );
  }

  private async livesOf(rows: ReplyRow[]): Promise<ReplyLife[]> {
    if (rows.length === 0) return [];
    const posts = await this.database.read((db) =>
      db
        .selectFrom('messages')
        .select(['id', 'reply_id', 'created_at'])
        .where(
          'reply_id',
          'in',
          rows.map(({ id }) => id),
        )
        .where('sender', '=', MessageSender.User)
        .execute(),
    );
    const told = await this.toldIn(rows.map((row) => row.chat_session_id));
    return rows.map((row) => {
      const question = posts.filter((post) => post.reply_id === row.id);
      const ids = [row.id, ...question.map(({ id }) => id)];
      return {
        reply: toReplyDto(row),
        steps: stepsOf(
          row,
          question.map((post) => isoTime(post.created_at)),
          told.filter(({ key }) => ids.some((id) => key.includes(id))),
        ),
      };
    });
  }

  /** What the streams of these sessions told; nothing where they don't answer, since the rows tell all else. */
  private async toldIn(sessionIds: readonly string[]): Promise<LoggedFact[]> {
    const told = [...new Set(sessionIds)].map((id) => this.stream.facts(id));
    return (await Promise.allSettled(told)).flatMap((facts) =>
      facts.status === 'fulfilled' ? facts.value : [],
    );
  }
}

/**
 * @param postedAt when each message that it answers was stored
 * @param told the events about it and those messages
 */
function stepsOf(row: ReplyRow, postedAt: readonly string[], told: readonly LoggedFact[]): LifeStep[] {
  const steps: LifeStep[] = [];
  const add = (at: string | null, step: LifeStepName, more: Partial<LifeStep> = {}): void => {
    if (at === null) return;
    steps.push({ at, step, attempt: null, worker: null, model: null, reason: null, actor: null, ...more });
  };
  // One transaction stores a message, its reply and the dispatch, a millisecond apart at times, in another order.
  const [firstPostAt = ''] = postedAt.toSorted();
  const atLeast = (at: string, than: string): string => (at < than ? than : at);
  const queuedAt = atLeast(isoTime(row.created_at), firstPostAt);
  const { attempt, model, claimed_by: worker } = row;
  for (const at of postedAt) add(at, LifeStepName.Posted);
  add(queuedAt, LifeStepName.Queued);
  for (const past of row.past_attempts) {
    const of = { attempt: past.attempt, worker: past.worker };
    add(isoTimeOrNull(past.claimedAt), LifeStepName.Claimed, of);
    add(isoTimeOrNull(past.firstTokenAt ?? null), LifeStepName.FirstToken, of);
    add(isoTime(past.endedAt), LifeStepName.AttemptEnded, { ...of, model: past.model, reason: past.reason });
  }
  // The newest job is for the attempt after the last that ended, in whose transaction it may have been noted.
  const dispatchedAt = isoTimeOrNull(row.dispatched_at);
  const lastEndAt = isoTimeOrNull(row.past_attempts.at(-1)?.endedAt ?? null) ?? queuedAt;
  add(dispatchedAt && atLeast(dispatchedAt, lastEndAt), LifeStepName.Dispatched, {
    reason: `job ${row.dispatch_count}`,
  });
  // Between two attempts the columns are still of the one before.
  if (!row.past_attempts.some((past) => past.attempt === attempt)) {
    add(isoTimeOrNull(row.claimed_at), LifeStepName.Claimed, { attempt, worker });
    add(isoTimeOrNull(row.attempt_first_token_at), LifeStepName.FirstToken, { attempt, worker });
  }
  add(isoTimeOrNull(row.cancel_requested_at), LifeStepName.CancelRequested, { actor: row.cancelled_by });
  const end = {
    completed: LifeStepName.Completed,
    failed: LifeStepName.Failed,
    cancelled: LifeStepName.Cancelled,
  };
  if (row.status in end) {
    add(isoTimeOrNull(row.finished_at), end[row.status as keyof typeof end], {
      attempt: attempt === 0 ? null : attempt, // nobody had claimed it
      worker,
      model,
      reason: row.error_code ?? row.finish_reason,
    });
  }
  for (const fact of told) add(fact.at, LifeStepName.Told, { attempt: attemptOf(fact), reason: fact.type });
  add(isoTimeOrNull(row.announced_at), LifeStepName.Published);
  // Stable, so that what happened in one millisecond keeps the order above.
  return steps.toSorted((a, b) => Date.parse(a.at) - Date.parse(b.at));
}

/** The attempt that an event is about, which ends its key; null: about none, as of a post or of what nobody claimed. */
function attemptOf({ key }: LoggedFact): number | null {
  const [, , attempt] = key.split(':');
  return Number(attempt) || null;
}
