export const EVENT_CURSOR_HEADER = 'X-Event-Cursor';

const header = (description: string) => ({
  [EVENT_CURSOR_HEADER]: { description, required: true, schema: { type: 'string' as const } },
});

/** Its documentation, for the responses to what causes events. */
export const eventCursorHeader = header(
  'Where the session’s event stream stood before this request took effect. Opened with `?after=` this cursor, the stream shows the events of this request and all that follow.',
);

/** The same, for a list of what the stream tells. */
export const listedCursorHeader = header(
  'Where the session’s event stream stood before this page was read. Opened with `?after=` this cursor, the stream shows everything that the page lacks; an event may tell something that the page holds already.',
);
