import { Migration } from '@mikro-orm/migrations';

export class Migration20261126185647_reply_attempts extends Migration {
  override name = 'Migration20261126185647_reply_attempts';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "replies" add "claimed_by" varchar(255) null, add "claimed_at" timestamptz(3) null, add "past_attempts" jsonb not null default '[]', add "cancelled_by" varchar(16) null, add "characteristics_used" int null, add "characteristics_of" int null;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(
      `alter table "replies" drop column "claimed_by", drop column "claimed_at", drop column "past_attempts", drop column "cancelled_by", drop column "characteristics_used", drop column "characteristics_of";`,
    );
  }
}
