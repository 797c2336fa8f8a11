import { Migration } from '@mikro-orm/migrations';

const INDEXES = {
  guests_newest_index: `create index concurrently "guests_newest_index" on "guests" ("chatbot_id", "created_at", "id");`,
  guests_email_index: `create index concurrently "guests_email_index" on "guests" (lower("email")) where "email" is not null;`,
  guests_one_person_per_chatbot: `create unique index concurrently "guests_one_person_per_chatbot" on "guests" ("chatbot_id", "external_id") where external_id is not null;`,
};

export class Migration20261127064604_guests_of_chatbots extends Migration {
  override name = 'Migration20261127064604_guests_of_chatbots';

  override isTransactional(): boolean {
    return false;
  }

  override up(): void | Promise<void> {
    this.addSql(`
      update guests g set chatbot_id = s.chatbot_id from chat_sessions s
      where s.guest_id = g.id and g.chatbot_id is null;`);
    this.addSql('alter table "guests" validate constraint "guests_chatbot_id_foreign";');
    for (const [index, creation] of Object.entries(INDEXES)) {
      // A try that was cut off has left an index that is there and no good.
      this.addSql(`drop index concurrently if exists "${index}";`);
      this.addSql(creation);
    }
  }

  override down(): void | Promise<void> {
    for (const index of Object.keys(INDEXES)) this.addSql(`drop index concurrently if exists "${index}";`);
  }
}
