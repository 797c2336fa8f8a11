import { Migration } from '@mikro-orm/migrations';

export class Migration20261127070811_session_tokens extends Migration {
  override name = 'Migration20261127070811_session_tokens';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "session_tokens" ("hash" varchar(64) not null, "session_id" uuid not null, "created_at" timestamptz(3) not null default clock_timestamp(), "used_at" timestamptz(3) not null default clock_timestamp(), primary key ("hash"));`,
    );
    this.addSql(
      `create index "session_tokens_session_index" on "session_tokens" ("session_id", "created_at");`,
    );
    this.addSql(`create index "session_tokens_used_index" on "session_tokens" ("used_at");`);

    this.addSql(
      `create or replace function "chat_sessions_keep_token_fn"() returns trigger as $$ begin insert into session_tokens (hash, session_id) values (new.token_hash, new.id) on conflict do nothing;     return null; end; $$ language plpgsql;`,
    );
    this.addSql(
      `create trigger "keep_token" AFTER INSERT on "chat_sessions" for each ROW execute function "chat_sessions_keep_token_fn"();`,
    );

    this.addSql(
      `alter table "session_tokens" add constraint "session_tokens_session_id_foreign" foreign key ("session_id") references "chat_sessions" ("id") on delete cascade;`,
    );
    this
      .addSql(`create or replace function "session_tokens_drop_oldest_fn"() returns trigger as $$ begin delete from session_tokens where hash in (
      select hash from session_tokens where session_id = new.session_id order by created_at desc, hash offset 20);     return null; end; $$ language plpgsql;`);
    this.addSql(
      `create trigger "drop_oldest" AFTER INSERT on "session_tokens" for each ROW execute function "session_tokens_drop_oldest_fn"();`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`drop trigger if exists "drop_oldest" on "session_tokens";`);
    this.addSql(`drop function if exists "session_tokens_drop_oldest_fn"();`);
    this.addSql(`drop table if exists "session_tokens" cascade;`);

    this.addSql(`drop trigger if exists "keep_token" on "chat_sessions";`);
    this.addSql(`drop function if exists "chat_sessions_keep_token_fn"();`);
  }
}
