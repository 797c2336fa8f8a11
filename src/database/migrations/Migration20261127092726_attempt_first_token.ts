import { Migration } from '@mikro-orm/migrations';

export class Migration20261127092726_attempt_first_token extends Migration {
  override name = 'Migration20261127092726_attempt_first_token';

  override up(): void | Promise<void> {
    this.addSql(`alter table "replies" add "attempt_first_token_at" timestamptz(3) null;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "replies" drop column "attempt_first_token_at";`);
  }
}
