import { Migration } from '@mikro-orm/migrations';

export class Migration20261127200000_take_places extends Migration {
  override name = 'Migration20261127200000_take_places';

  override up(): void | Promise<void> {
    // As hold_places does, which the version before calls; and it tells how many are in use, up to the first key that has no
    // place left, whose number is more than its most.
    this.addSql(`
      create function take_places(keys text[], maxima int[], by_holder uuid, seconds int) returns setof int
      language plpgsql as $$
      declare
        used int;
      begin
        perform set_config('synchronous_commit', 'off', true); -- what a crash forgets is no loss
        for n in 1 .. cardinality(keys) loop
          -- One after the other for each key, so that no two take its last place.
          perform pg_advisory_xact_lock(hashtextextended('places ' || keys[n], 0));
          delete from held_places where key = keys[n] and until <= clock_timestamp();
          select count(*) + 1 into used from held_places where key = keys[n];
          return next used;
          if used > maxima[n] then
            delete from held_places where holder = by_holder;
            return;
          end if;
          insert into held_places (key, holder, until)
          values (keys[n], by_holder, clock_timestamp() + seconds * interval '1 second');
        end loop;
      end $$;`);
  }

  override down(): void | Promise<void> {
    this.addSql('drop function take_places(text[], int[], uuid, int);');
  }
}
