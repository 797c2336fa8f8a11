import { Migration } from '@mikro-orm/migrations';

export class Migration20261126185645_instructions extends Migration {
  override name = 'Migration20261126185645_instructions';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "chatbots" add "instructions" text null, add "is_enabled" boolean not null default true, add "prompt_tokens" int not null default 0, add "is_counted" boolean not null default false;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(
      `alter table "chatbots" drop column "instructions", drop column "is_enabled", drop column "prompt_tokens", drop column "is_counted";`,
    );
  }
}
