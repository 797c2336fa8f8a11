import { Migration } from '@mikro-orm/migrations';

export class Migration20261126185646_characteristic_tokens extends Migration {
  override name = 'Migration20261126185646_characteristic_tokens';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "chatbot_characteristics" add "tokens" int null, add "is_counted" boolean not null default false;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "chatbot_characteristics" drop column "tokens", drop column "is_counted";`);
  }
}
