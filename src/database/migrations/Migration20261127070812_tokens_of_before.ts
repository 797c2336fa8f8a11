import { Migration } from '@mikro-orm/migrations';

export class Migration20261127070812_tokens_of_before extends Migration {
  override name = 'Migration20261127070812_tokens_of_before';

  override isTransactional(): boolean {
    return false;
  }

  /** Their use was not noted: they count from the last activity of their session. */
  override up(): void | Promise<void> {
    this.addSql(`
      insert into session_tokens (hash, session_id, created_at, used_at)
      select token_hash, id, created_at, active_at from chat_sessions
      on conflict do nothing;`);
  }

  override down(): void | Promise<void> {}
}
