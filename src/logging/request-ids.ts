import type { ServerResponse } from 'node:http';
import type { RefusedToken } from '../runtime/app-error.js';

/** What a request is about, where its URL does not show it: for its log line and its span. */
interface RequestIds {
  sessionId?: string;
  replyId?: string;
}

const ids = new WeakMap<ServerResponse, RequestIds>();

/** Notes what a request came to. */
export function markIds(response: ServerResponse, marked: RequestIds): void {
  ids.set(response, marked);
}

export function idsOf(response: ServerResponse): RequestIds {
  return ids.get(response) ?? {};
}

const refusedTokens = new WeakMap<ServerResponse, RefusedToken>();

/** Notes why the caller's token was refused, for the request's line in the log. */
export function markRefusedToken(response: ServerResponse, refused: RefusedToken): void {
  refusedTokens.set(response, refused);
}

export const refusedTokenOf = (response: ServerResponse): RefusedToken | undefined =>
  refusedTokens.get(response);
