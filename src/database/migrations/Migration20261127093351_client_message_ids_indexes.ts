import { Migration } from '@mikro-orm/migrations';

const UNIQUE = '"messages_client_message_id_unique"';
const SUPERSEDED = '"messages_superseded_by_index"';

export class Migration20261127093351_client_message_ids_indexes extends Migration {
  override name = 'Migration20261127093351_client_message_ids_indexes';

  override isTransactional(): boolean {
    return false;
  }

  override up(): void | Promise<void> {
    // A try that was cut off has left an index that is there and no good.
    this.addSql(`drop index concurrently if exists ${UNIQUE};`);
    this.addSql(
      `create unique index concurrently ${UNIQUE} on "messages" ("chat_session_id", "client_message_id") where client_message_id is not null;`,
    );
    this.addSql(`drop index concurrently if exists ${SUPERSEDED};`);
    this.addSql(
      `create index concurrently ${SUPERSEDED} on "messages" ("superseded_by") where superseded_by is not null;`,
    );
    this.addSql('alter table "messages" validate constraint "messages_superseded_by_foreign";');
  }

  override down(): void | Promise<void> {
    this.addSql(`drop index concurrently if exists ${UNIQUE};`);
    this.addSql(`drop index concurrently if exists ${SUPERSEDED};`);
  }
}
