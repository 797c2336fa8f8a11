export const EVENT_CURSOR_HEADER = 'X-Event-Cursor';

/** Its documentation, for the responses that carry it. */
export const eventCursorHeader = {
  [EVENT_CURSOR_HEADER]: {
    description: 'Follow the session’s events from here to see all that follows this request.',
    schema: { type: 'string' as const },
  },
};
