export const EVENT_CURSOR_HEADER = 'X-Event-Cursor';

/** Its documentation, for the responses that carry it. */
export const eventCursorHeader = {
  [EVENT_CURSOR_HEADER]: {
    description:
      'Where the session’s event stream stood before this request took effect. Opened with `?after=` this cursor, the stream shows the events of this request and all that follow.',
    required: true,
    schema: { type: 'string' as const },
  },
};

/** The same, for the list of what the stream tells. */
export const listedCursorHeader = {
  [EVENT_CURSOR_HEADER]: {
    description:
      'Where the session’s event stream stood before this page was read. Opened with `?after=` this cursor, the stream shows everything that the page lacks; an event may tell something that the page holds already.',
    required: true,
    schema: { type: 'string' as const },
  },
};
