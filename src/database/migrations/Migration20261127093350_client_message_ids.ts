import { Migration } from '@mikro-orm/migrations';

/** Their indexes, on a table that may be large, are made apart. */
export class Migration20261127093350_client_message_ids extends Migration {
  override name = 'Migration20261127093350_client_message_ids';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "messages" add "client_message_id" varchar(255) null, add "superseded_by" uuid null;`,
    );
    this.addSql(
      `alter table "messages" add constraint "messages_superseded_by_foreign" foreign key ("superseded_by") references "replies" ("id") on delete no action not valid;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "messages" drop constraint "messages_superseded_by_foreign";`);
    this.addSql(`alter table "messages" drop column "client_message_id", drop column "superseded_by";`);
  }
}
