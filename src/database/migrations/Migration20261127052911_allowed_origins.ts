import { Migration } from '@mikro-orm/migrations';

export class Migration20261127052911_allowed_origins extends Migration {
  override name = 'Migration20261127052911_allowed_origins';

  override up(): void | Promise<void> {
    this.addSql(`alter table "chatbots" add "allowed_origins" text[] not null default '{}';`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "chatbots" drop column "allowed_origins";`);
  }
}
