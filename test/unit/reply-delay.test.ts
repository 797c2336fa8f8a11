import { describe, expect, it } from '@jest/globals';
import { delayOf, type ReplyRow } from '../../src/conversations/reply.dto.js';
import { ReplyStatus } from '../../src/conversations/reply-status.js';

const ENDED_AT = '2026-11-27T10:00:00.0004+00:00';
const failed = (attempt: number, reason: string) => ({
  attempt,
  worker: null,
  model: null,
  claimedAt: null,
  endedAt: ENDED_AT,
  reason,
});

const reply = (row: Partial<ReplyRow>): ReplyRow =>
  ({
    status: ReplyStatus.InProgress,
    lease_token: null,
    available_at: '2026-11-27T10:00:00.001Z',
    past_attempts: [failed(1, 'provider_timeout'), failed(2, 'worker_lost')],
    ...row,
  }) as ReplyRow;

describe('the delay of a reply', () => {
  it('is why its last attempt ended, until a worker is free', () => {
    expect(delayOf(reply({}))).toEqual({ reason: 'worker_lost', retryAt: null });
  });

  it('has a time where it waits for one', () => {
    expect(delayOf(reply({ available_at: '2026-11-27T11:00:02.5+01:00' }))).toEqual({
      reason: 'worker_lost',
      retryAt: '2026-11-27T10:00:02.500Z',
    });
  });

  it.each<[string, Partial<ReplyRow>]>([
    ['is being made', { lease_token: '01a21d52-71db-73f2-80a6-76100ba2bd91' }],
    ['was not begun', { status: ReplyStatus.Queued, past_attempts: [] }],
    ['is done', { status: ReplyStatus.Completed }],
    ['is stopped', { status: ReplyStatus.Cancelled }],
  ])('is none where it %s', (_, row) => {
    expect(delayOf(reply(row))).toBeNull();
  });
});
