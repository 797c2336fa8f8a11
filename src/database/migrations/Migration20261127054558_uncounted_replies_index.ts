import { Migration } from '@mikro-orm/migrations';

export class Migration20261127054558_uncounted_replies_index extends Migration {
  override name = 'Migration20261127054558_uncounted_replies_index';

  override isTransactional(): boolean {
    return false;
  }

  override up(): void | Promise<void> {
    // A try that was cut off has left an index that is there and no good.
    this.addSql('drop index concurrently if exists "replies_uncounted_index";');
    this.addSql(
      'create index concurrently "replies_uncounted_index" on "replies" ("chatbot_id", "available_at") where not is_counted;',
    );
    this.addSql('alter table "replies" validate constraint "replies_finish_reason_check";');
  }

  override down(): void | Promise<void> {
    this.addSql('drop index concurrently if exists "replies_uncounted_index";');
  }
}
