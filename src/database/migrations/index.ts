import { Migration20261122145257_init } from './Migration20261122145257_init.js';
import { Migration20261122150000_event_stream } from './Migration20261122150000_event_stream.js';
import { Migration20261122154105_cancel_retry_idempotency } from './Migration20261122154105_cancel_retry_idempotency.js';

/** In the order in which they run. A file that is not in this list does not exist for the product. */
export const migrations = [
  Migration20261122145257_init,
  Migration20261122150000_event_stream,
  Migration20261122154105_cancel_retry_idempotency,
];
