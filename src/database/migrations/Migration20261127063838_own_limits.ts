import { Migration } from '@mikro-orm/migrations';

export class Migration20261127063838_own_limits extends Migration {
  override name = 'Migration20261127063838_own_limits';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "held_places" ("key" varchar(512) not null, "holder" uuid not null, "until" timestamptz(3) not null, primary key ("key", "holder"));`,
    );
    this.addSql(`create index "held_places_holder_index" on "held_places" ("holder");`);

    this.addSql(`alter table "chatbots" add "limits" jsonb null;`);

    // Takes a place of each key, in this order, or none, and says which key had none left; null: each had.
    this.addSql(`
      create function hold_places(keys text[], maxima int[], by_holder uuid, seconds int) returns int
      language plpgsql as $$
      begin
        perform set_config('synchronous_commit', 'off', true); -- what a crash forgets is no loss
        for n in 1 .. cardinality(keys) loop
          -- One after the other for each key, so that no two take its last place.
          perform pg_advisory_xact_lock(hashtextextended('places ' || keys[n], 0));
          delete from held_places where key = keys[n] and until <= clock_timestamp();
          if (select count(*) from held_places where key = keys[n]) >= maxima[n] then
            delete from held_places where holder = by_holder;
            return n;
          end if;
          insert into held_places (key, holder, until)
          values (keys[n], by_holder, clock_timestamp() + seconds * interval '1 second');
        end loop;
        return null;
      end $$;`);
  }

  override down(): void | Promise<void> {
    this.addSql('drop function hold_places(text[], int[], uuid, int);');
    this.addSql(`drop table if exists "held_places" cascade;`);

    this.addSql(`alter table "chatbots" drop column "limits";`);
  }
}
