import { Migration } from '@mikro-orm/migrations';

export class Migration20261122154105_cancel_retry_idempotency extends Migration {
  override name = 'Migration20261122154105_cancel_retry_idempotency';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "idempotency_keys" ("id" varchar(64) not null, "body_hash" varchar(64) not null, "result" jsonb not null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );
    this.addSql(`create index "idempotency_keys_created_at_index" on "idempotency_keys" ("created_at");`);

    this.addSql(`alter table "replies" add "cancel_requested_at" timestamptz(3) null;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "idempotency_keys" cascade;`);

    this.addSql(`alter table "replies" drop column "cancel_requested_at";`);
  }
}
