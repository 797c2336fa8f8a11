import { Migration } from '@mikro-orm/migrations';

export class Migration20261127071202_owner_erasures extends Migration {
  override name = 'Migration20261127071202_owner_erasures';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "owner_erasures" ("clerk_user_id" varchar(255) not null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("clerk_user_id"));`,
    );
  }

  override down(): void | Promise<void> {
    this.addSql(`drop table if exists "owner_erasures" cascade;`);
  }
}
