import { Migration } from '@mikro-orm/migrations';

export class Migration20261127101148_appearance extends Migration {
  override name = 'Migration20261127101148_appearance';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "chatbots" add "appearance" jsonb not null default '{}', add "requires_identity" boolean not null default false, add "identity_secret" varchar(64) null, add "previous_identity_secret" varchar(64) null, add "previous_identity_secret_until" timestamptz(3) null;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(
      `alter table "chatbots" drop column "appearance", drop column "requires_identity", drop column "identity_secret", drop column "previous_identity_secret", drop column "previous_identity_secret_until";`,
    );
  }
}
