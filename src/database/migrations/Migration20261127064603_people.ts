import { Migration } from '@mikro-orm/migrations';

export class Migration20261127064603_people extends Migration {
  override name = 'Migration20261127064603_people';

  override up(): void | Promise<void> {
    this.addSql(`alter table "chatbots" add "retention_days" int null;`);
    this.addSql(
      `create index "chatbots_retention_index" on "chatbots" ("id") where retention_days is not null;`,
    );

    this.addSql(`alter table "guests" add "chatbot_id" uuid null, add "external_id" varchar(255) null;`);
    this.addSql(
      `alter table "guests" add constraint "guests_chatbot_id_foreign" foreign key ("chatbot_id") references "chatbots" ("id") on delete cascade not valid;`,
    );

    this.addSql(
      `create or replace function "chat_sessions_place_guest_fn"() returns trigger as $$ begin update guests set chatbot_id = new.chatbot_id where id = new.guest_id and chatbot_id is null;     return null; end; $$ language plpgsql;`,
    );
    this.addSql(`create trigger "place_guest" AFTER INSERT on "chat_sessions" for each ROW
  when ((new.guest_id IS NOT NULL)) execute function "chat_sessions_place_guest_fn"();`);
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "guests" drop constraint "guests_chatbot_id_foreign";`);

    this.addSql(`drop trigger if exists "place_guest" on "chat_sessions";`);
    this.addSql(`drop function if exists "chat_sessions_place_guest_fn"();`);

    this.addSql(`drop index "chatbots_retention_index";`);
    this.addSql(`alter table "chatbots" drop column "retention_days";`);

    this.addSql(`alter table "guests" drop column "chatbot_id", drop column "external_id";`);
  }
}
