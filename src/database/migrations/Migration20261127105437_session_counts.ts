import { Migration } from '@mikro-orm/migrations';

export class Migration20261127105437_session_counts extends Migration {
  override name = 'Migration20261127105437_session_counts';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "session_count_changes" ("id" bigserial primary key, "chatbot_id" uuid not null, "delta" smallint not null);`,
    );
    this.addSql(`alter table "chatbots" add "session_count" int not null default 0;`);

    this.addSql(
      `create or replace function "chat_sessions_count_opened_fn"() returns trigger as $$ begin insert into session_count_changes (chatbot_id, delta) values (new.chatbot_id, 1);     return null; end; $$ language plpgsql;`,
    );
    this.addSql(
      `create trigger "count_opened" AFTER INSERT on "chat_sessions" for each ROW execute function "chat_sessions_count_opened_fn"();`,
    );
    this.addSql(
      `create or replace function "chat_sessions_count_erased_fn"() returns trigger as $$ begin insert into session_count_changes (chatbot_id, delta) values (old.chatbot_id, -1);     return null; end; $$ language plpgsql;`,
    );
    this.addSql(
      `create trigger "count_erased" AFTER DELETE on "chat_sessions" for each ROW execute function "chat_sessions_count_erased_fn"();`,
    );
    // Making the triggers has locked the table against other writers, so none is counted twice or not at all.
    this.addSql(`
      update chatbots set session_count = counted.sessions
      from (select chatbot_id, count(*)::int as sessions from chat_sessions group by chatbot_id) as counted
      where chatbots.id = counted.chatbot_id;`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop trigger if exists "count_opened" on "chat_sessions";`);
    this.addSql(`drop function if exists "chat_sessions_count_opened_fn"();`);
    this.addSql(`drop trigger if exists "count_erased" on "chat_sessions";`);
    this.addSql(`drop function if exists "chat_sessions_count_erased_fn"();`);
    this.addSql(`drop table if exists "session_count_changes" cascade;`);

    this.addSql(`alter table "chatbots" drop column "session_count";`);
  }
}
