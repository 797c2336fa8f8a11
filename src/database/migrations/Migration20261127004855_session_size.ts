import { Migration } from '@mikro-orm/migrations';

export class Migration20261127004855_session_size extends Migration {
  override name = 'Migration20261127004855_session_size';

  override up(): void | Promise<void> {
    this.addSql(`alter table "chat_sessions" add "message_chars" bigint not null default '0';`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "chat_sessions" drop column "message_chars";`);
  }
}
