import { Migration } from '@mikro-orm/migrations';

const INDEXES = {
  chatbots_uncounted_index: `"chatbots" ("id") where instructions is not null and not is_counted`,
  chatbot_characteristics_uncounted_index: `"chatbot_characteristics" ("chatbot_id") where not is_counted`,
};

export class Migration20261126234640_uncounted_indexes extends Migration {
  override name = 'Migration20261126234640_uncounted_indexes';

  override isTransactional(): boolean {
    return false;
  }

  override up(): void | Promise<void> {
    for (const [index, on] of Object.entries(INDEXES)) {
      // A try that was cut off has left an index that is there and no good.
      this.addSql(`drop index concurrently if exists "${index}";`);
      this.addSql(`create index concurrently "${index}" on ${on};`);
    }
  }

  override down(): void | Promise<void> {
    for (const index of Object.keys(INDEXES)) this.addSql(`drop index concurrently if exists "${index}";`);
  }
}
