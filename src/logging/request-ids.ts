import type { ServerResponse } from 'node:http';

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
