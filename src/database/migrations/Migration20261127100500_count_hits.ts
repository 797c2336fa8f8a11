import { Migration } from '@mikro-orm/migrations';

/** Beside `take_limits`, which the version before asks: says of each hit what it came to. */
export class Migration20261127100500_count_hits extends Migration {
  override name = 'Migration20261127100500_count_hits';

  override up(): void | Promise<void> {
    this.addSql(`
      create function count_hits(keys text[], maxima int[], seconds int[], out hits int, out reset_ms float8)
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
          hits := counted.hits;
          reset_ms := extract(epoch from counted.ends_at - clock_timestamp()) * 1000;
          return next;
          exit when counted.hits > maxima[n];
        end loop;
      end $$;`);
  }

  override down(): void | Promise<void> {
    this.addSql('drop function count_hits(text[], int[], int[]);');
  }
}
