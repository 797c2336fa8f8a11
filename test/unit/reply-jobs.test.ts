import { randomUUID } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { jobIdOf, readReplyJob } from '../../src/conversations/reply-jobs.js';

const data = {
  version: 1,
  replyId: randomUUID(),
  sessionId: randomUUID(),
  number: 3,
  requestId: 'request-1',
};

describe('a job of the queue of replies', () => {
  it('is told by its name, and read with what its payload promises', () => {
    expect(readReplyJob({ name: 'generate', data })).toEqual({ name: 'generate', data });
    expect(readReplyJob({ name: 'generate', data: { ...data, requestId: null } })?.data).toEqual({
      ...data,
      requestId: null,
    });
    expect(readReplyJob({ name: 'count_tokens', data: { version: 1 } })).toEqual({
      name: 'count_tokens',
      data: { version: 1 },
    });
  });

  it('may carry a field more, of a newer version: it is left out', () => {
    expect(readReplyJob({ name: 'generate', data: { ...data, shade: 'blue' } })).toEqual({
      name: 'generate',
      data,
    });
  });

  it.each([
    ['an unknown name', 'summarize', data],
    ['the name of what every object has', 'constructor', data],
    ['another version', 'generate', { ...data, version: 2 }],
    ['no version', 'generate', { ...data, version: undefined }],
    ['an id that is none', 'generate', { ...data, replyId: 'no-uuid' }],
    ['a number that is text', 'generate', { ...data, number: '3' }],
    ['a field less', 'generate', { ...data, requestId: undefined }],
    ['nothing', 'generate', null],
  ])('with %s is not read', (_, name, payload) => {
    expect(readReplyJob({ name, data: payload })).toBeNull();
  });

  it('has the id of its reply and its number, which BullMQ takes', () => {
    expect(jobIdOf(data.replyId, 3)).toBe(`r-${data.replyId}-3`);
    expect(jobIdOf(data.replyId, 3)).not.toMatch(/:|^\d+$/);
  });
});
