import { Migration } from '@mikro-orm/migrations';

export class Migration20261126234639_counted_tokens extends Migration {
  override name = 'Migration20261126234639_counted_tokens';

  override up(): void | Promise<void> {
    this.addSql(`alter table "chatbots" drop column "prompt_tokens", add "instructions_tokens" int null;`);
    this
      .addSql(`create or replace function "chatbots_uncount_fn"() returns trigger as $$ begin new.is_counted := false;
    if new.instructions_tokens is not distinct from old.instructions_tokens then new.instructions_tokens := null; end if;
    return new; end; $$ language plpgsql;`);
    this.addSql(`create trigger "uncount" before update on "chatbots" for each row
  when (new.instructions is distinct from old.instructions) execute function "chatbots_uncount_fn"();`);

    this
      .addSql(`create or replace function "chatbot_characteristics_uncount_fn"() returns trigger as $$ begin new.is_counted := false;
    if new.tokens is not distinct from old.tokens then new.tokens := null; end if;
    return new; end; $$ language plpgsql;`);
    this.addSql(`create trigger "uncount" before update on "chatbot_characteristics" for each row
  when (new.content is distinct from old.content) execute function "chatbot_characteristics_uncount_fn"();`);
  }

  override down(): void | Promise<void> {
    this.addSql(`drop trigger if exists "uncount" on "chatbot_characteristics";`);
    this.addSql(`drop function if exists "chatbot_characteristics_uncount_fn"();`);
    this.addSql(`drop trigger if exists "uncount" on "chatbots";`);
    this.addSql(`drop function if exists "chatbots_uncount_fn"();`);
    this.addSql(
      `alter table "chatbots" drop column "instructions_tokens", add "prompt_tokens" int not null default 0;`,
    );
  }
}
