import { Migration } from '@mikro-orm/migrations';

export class Migration20261127011034_rate_limits extends Migration {
  override name = 'Migration20261127011034_rate_limits';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "rate_limits" ("key" varchar(512) not null, "hits" int not null, "ends_at" timestamptz(3) not null, primary key ("key"));`,
    );
    // Counts one hit after the other, up to the first that is too much, and says which that was.
    this.addSql(`
      create function take_limits(keys text[], maxima int[], seconds int[], out place int, out retry_after_ms float8)
      returns setof record language plpgsql as $$
      declare
        counted record;
      begin
        -- A busy key's row is locked until the commit, which does not wait for the disk: what a crash forgets is no loss.
        perform set_config('synchronous_commit', 'off', true);
        for n in 1 .. cardinality(keys) loop
          insert into rate_limits as r (key, hits, ends_at)
          values (keys[n], 1, clock_timestamp() + seconds[n] * interval '1 second')
          on conflict (key) do update set
            hits = case when r.ends_at <= clock_timestamp() then 1 else least(r.hits + 1, 1000000000) end,
            ends_at = case when r.ends_at <= clock_timestamp() then excluded.ends_at else r.ends_at end
          returning r.hits, r.ends_at into counted;
          if counted.hits > maxima[n] then
            place := n;
            retry_after_ms := extract(epoch from counted.ends_at - clock_timestamp()) * 1000;
            return next;
            return;
          end if;
        end loop;
      end $$;`);
  }

  override down(): void | Promise<void> {
    this.addSql('drop function take_limits(text[], int[], int[]);');
    this.addSql('drop table if exists "rate_limits" cascade;');
  }
}
