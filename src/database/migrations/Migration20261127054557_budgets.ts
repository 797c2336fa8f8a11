import { Migration } from '@mikro-orm/migrations';

export class Migration20261127054557_budgets extends Migration {
  override name = 'Migration20261127054557_budgets';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "usage_days" ("chatbot_id" uuid not null, "day" date not null, "model" varchar(255) not null, "messages" int not null default 0, "completed" int not null default 0, "failed" int not null default 0, "cancelled" int not null default 0, "budget" int not null default 0, "input_tokens" bigint not null default '0', "output_tokens" bigint not null default '0', primary key ("chatbot_id", "day", "model"));`,
    );

    this.addSql(
      `alter table "chatbots" add "daily_token_budget" int null, add "unavailable_message" text null;`,
    );

    this.addSql(`alter table "replies" drop constraint "replies_finish_reason_check";`);
    // What ended before is not counted: it would be all that there ever was.
    this.addSql(
      `alter table "replies" add "chatbot_id" uuid null, add "message_count" int not null default 0, add "reserved_tokens" int null, add "is_counted" boolean not null default true;`,
    );
    this.addSql(`alter table "replies" alter "is_counted" set default false;`);
    this.addSql(`
      update replies r set is_counted = false,
        chatbot_id = (select s.chatbot_id from chat_sessions s where s.id = r.chat_session_id),
        message_count = (select count(*) from messages m where m.reply_id = r.id and m.sender = 'user')
      where finished_at is null;`);
    // Not looked at row by row while nobody can write: what was allowed before is allowed now.
    this.addSql(
      `alter table "replies" add constraint "replies_finish_reason_check" check ("finish_reason" in ('stop', 'length', 'content_filter', 'cancelled', 'budget')) not valid;`,
    );
    this.addSql(
      `create or replace function "replies_fill_chatbot_fn"() returns trigger as $$ begin select chatbot_id into new.chatbot_id from chat_sessions where id = new.chat_session_id;     return new; end; $$ language plpgsql;`,
    );
    this.addSql(`create trigger "fill_chatbot" BEFORE INSERT on "replies" for each ROW
  when ((new.chatbot_id IS NULL)) execute function "replies_fill_chatbot_fn"();`);

    // Under one lock for each chatbot, so that no two replies take what is left for one.
    this.addSql(`
      create function reserve_tokens(claimed uuid, fence uuid, wanted int, budget int, out outcome text)
      language plpgsql as $$
      declare
        bot uuid;
        today date := (clock_timestamp() at time zone 'UTC')::date;
        used bigint;
        reserved bigint;
      begin
        select chatbot_id into bot from replies where id = claimed and lease_token = fence;
        if bot is null then
          outcome := 'lost';
          return;
        end if;
        -- The lock is held until the commit, which does not wait for the disk: what a crash forgets, its worker does, too.
        perform set_config('synchronous_commit', 'off', true);
        perform pg_advisory_xact_lock(hashtextextended('budget ' || bot, 0));
        -- In one statement: a reply that is being counted is here or there.
        select
          coalesce((select sum(input_tokens + output_tokens) from usage_days where chatbot_id = bot and day = today), 0)
            + coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))
                filter (where finished_at >= today::timestamp at time zone 'UTC'), 0),
          coalesce(sum(reserved_tokens) filter (where lease_token is not null and id <> claimed), 0)
        into used, reserved
        from replies where chatbot_id = bot and not is_counted;
        if used >= budget then
          outcome := 'spent';
        elsif reserved > 0 and used + reserved + wanted > budget then
          outcome := 'wait';
        else
          update replies set reserved_tokens = wanted where id = claimed and lease_token = fence;
          outcome := case when found then 'reserved' else 'lost' end;
        end if;
      end $$;`);
    this.addSql(
      `alter table "usage_days" add constraint "usage_days_chatbot_id_foreign" foreign key ("chatbot_id") references "chatbots" ("id") on delete cascade;`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "usage_days" cascade;`);

    this.addSql(
      `alter table "chatbots" drop column "daily_token_budget", drop column "unavailable_message";`,
    );

    this.addSql('drop function reserve_tokens(uuid, uuid, int, int);');
    this.addSql(`alter table "replies" drop constraint "replies_finish_reason_check";`);
    this.addSql(`drop trigger if exists "fill_chatbot" on "replies";`);
    this.addSql(`drop function if exists "replies_fill_chatbot_fn"();`);
    this.addSql(
      `alter table "replies" drop column "chatbot_id", drop column "message_count", drop column "reserved_tokens", drop column "is_counted";`,
    );
    this.addSql(`update "replies" set "finish_reason" = 'stop' where "finish_reason" = 'budget';`);
    this.addSql(
      `alter table "replies" add constraint "replies_finish_reason_check" check ("finish_reason" in ('stop', 'length', 'content_filter', 'cancelled'));`,
    );
  }
}
