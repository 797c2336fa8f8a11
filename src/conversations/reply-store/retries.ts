import { type RawBuilder, sql } from 'kysely';

/**
 * A retry answers the messages of an earlier reply, which may itself be one: a chain of replies to the same messages. The
 * answers of those before it stay valid until it completes, which supersedes them (`complete_reply`).
 */

/** The ids of the replies that one was made instead of. */
export const earlierReplies = (replyId: string): RawBuilder<string> =>
  sql<string>`(select id from earlier_replies(${replyId}))`;
