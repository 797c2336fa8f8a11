import { Migration } from '@mikro-orm/migrations';
import { EVENT_STREAM_SQL } from '../../events/postgres-event-stream.sql.js';

export class Migration20261122150000_event_stream extends Migration {
  override name = 'Migration20261122150000_event_stream';

  override up(): void {
    this.addSql(EVENT_STREAM_SQL);
  }
}
