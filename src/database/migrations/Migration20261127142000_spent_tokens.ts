import { Migration } from '@mikro-orm/migrations';

export class Migration20261127142000_spent_tokens extends Migration {
  override name = 'Migration20261127142000_spent_tokens';

  override up(): void | Promise<void> {
    this.addSql(
      `alter table "replies" add "spent_input_tokens" int not null default 0, add "spent_output_tokens" int not null default 0;`,
    );

    // As before, and with what attempts came to that no answer came of.
    this.addSql(`
      create or replace function reserve_tokens(claimed uuid, fence uuid, wanted int, budget int, out outcome text)
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
        -- In one statement: a reply that is being counted is here or there. What others are being made with is reserved.
        select
          coalesce((select sum(input_tokens + output_tokens) from usage_days where chatbot_id = bot and day = today), 0)
            + coalesce(sum(spent_input_tokens + spent_output_tokens
                + case when finished_at is null and (output_tokens is null or lease_token is not null and id <> claimed) then 0
                    else coalesce(input_tokens, 0) + coalesce(output_tokens, 0) end)
                filter (where finished_at is null or finished_at >= today::timestamp at time zone 'UTC'), 0),
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
  }

  override down(): void | Promise<void> {
    this.addSql(`alter table "replies" drop column "spent_input_tokens", drop column "spent_output_tokens";`);
  }
}
