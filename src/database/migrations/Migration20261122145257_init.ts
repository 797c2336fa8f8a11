import { Migration } from '@mikro-orm/migrations';

export class Migration20261122145257_init extends Migration {
  override name = 'Migration20261122145257_init';

  override up(): void | Promise<void> {
    this.addSql(
      `create table "chatbots" ("id" uuid not null, "clerk_user_id" varchar(255) not null, "name" varchar(255) not null, "greeting" text null, "model" varchar(255) null, "created_at" timestamptz(3) not null default clock_timestamp(), "updated_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );
    this.addSql(
      `create index "chatbots_owner_newest_index" on "chatbots" ("clerk_user_id", "created_at", "id");`,
    );

    this.addSql(
      `create table "chatbot_characteristics" ("id" uuid not null, "chatbot_id" uuid not null, "content" text not null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );
    this.addSql(
      `create index "chatbot_characteristics_oldest_index" on "chatbot_characteristics" ("chatbot_id", "created_at", "id");`,
    );

    this.addSql(
      `create table "erasures" ("session_id" uuid not null, "dispatch_counts" jsonb not null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("session_id"));`,
    );

    this.addSql(
      `create table "guests" ("id" uuid not null, "name" varchar(255) null, "email" varchar(255) null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );

    this.addSql(
      `create table "chat_sessions" ("id" uuid not null, "chatbot_id" uuid not null, "guest_id" uuid null, "token_hash" varchar(64) not null, "event_token_key" varchar(64) not null, "message_count" int not null default 0, "last_message_at" timestamptz(3) null, "active_at" timestamptz(3) not null default clock_timestamp(), "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );
    this.addSql(`create index "chat_sessions_guest_id_index" on "chat_sessions" ("guest_id");`);
    this.addSql(
      `alter table "chat_sessions" add constraint "chat_sessions_token_hash_unique" unique ("token_hash");`,
    );
    this.addSql(
      `create index "chat_sessions_most_active_index" on "chat_sessions" ("chatbot_id", "active_at", "id");`,
    );

    this.addSql(
      `create table "replies" ("id" uuid not null, "chat_session_id" uuid not null, "status" text not null default 'queued', "retry_of_id" uuid null, "request_id" varchar(128) null, "attempt" int not null default 0, "failures" int not null default 0, "lease_token" uuid null, "lease_until" timestamptz(3) null, "available_at" timestamptz(3) null, "deadline_at" timestamptz(3) null, "dispatch_count" int not null default 0, "dispatched_at" timestamptz(3) null, "partial_text" text null, "model" varchar(255) null, "finish_reason" text null, "input_tokens" int null, "output_tokens" int null, "is_usage_estimated" boolean not null default false, "error_code" text null, "created_at" timestamptz(3) not null default clock_timestamp(), "started_at" timestamptz(3) null, "first_token_at" timestamptz(3) null, "finished_at" timestamptz(3) null, "announced_at" timestamptz(3) null, primary key ("id"));`,
    );
    this.addSql(`create index "replies_newest_index" on "replies" ("chat_session_id", "created_at", "id");`);
    this.addSql(
      `create index "replies_retry_of_index" on "replies" ("retry_of_id") where retry_of_id is not null;`,
    );
    this.addSql(
      `create index "replies_unfinished_index" on "replies" ("available_at") where finished_at is null;`,
    );
    this.addSql(
      `create index "replies_unannounced_index" on "replies" ("finished_at") where finished_at is not null and announced_at is null;`,
    );
    this.addSql(
      `create unique index "replies_one_queued_per_session" on "replies" ("chat_session_id") where status = 'queued';`,
    );
    this.addSql(
      `create unique index "replies_one_in_progress_per_session" on "replies" ("chat_session_id") where status = 'in_progress';`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_lease_only_in_progress" check (lease_token is null or status = 'in_progress');`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_lease_is_whole" check ((lease_token is null) = (lease_until is null));`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_end_exactly_when_final" check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null));`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_error_exactly_when_failed" check ((status = 'failed') = (error_code is not null));`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_status_check" check ("status" in ('queued', 'in_progress', 'completed', 'failed', 'cancelled'));`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_finish_reason_check" check ("finish_reason" in ('stop', 'length', 'content_filter', 'cancelled'));`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_error_code_check" check ("error_code" in ('provider_timeout', 'provider_unavailable', 'provider_rate_limited', 'provider_rejected', 'context_too_long', 'empty_reply', 'expired', 'internal'));`,
    );

    this.addSql(
      `create table "messages" ("id" uuid not null, "chat_session_id" uuid not null, "sequence" int not null, "sender" text not null, "content" text not null, "reply_id" uuid null, "created_at" timestamptz(3) not null default clock_timestamp(), primary key ("id"));`,
    );
    this.addSql(`create index "messages_reply_id_index" on "messages" ("reply_id");`);
    this.addSql(
      `alter table "messages" add constraint "messages_sequence_unique" unique ("chat_session_id", "sequence");`,
    );
    this.addSql(
      `create unique index "messages_one_ai_message_per_reply" on "messages" ("reply_id") where sender = 'ai';`,
    );
    this.addSql(
      `alter table "messages" add constraint "messages_sender_check" check ("sender" in ('user', 'ai'));`,
    );

    this.addSql(
      `alter table "chatbot_characteristics" add constraint "chatbot_characteristics_chatbot_id_foreign" foreign key ("chatbot_id") references "chatbots" ("id") on delete cascade;`,
    );

    this.addSql(
      `alter table "chat_sessions" add constraint "chat_sessions_chatbot_id_foreign" foreign key ("chatbot_id") references "chatbots" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "chat_sessions" add constraint "chat_sessions_guest_id_foreign" foreign key ("guest_id") references "guests" ("id") on delete cascade;`,
    );

    this.addSql(
      `alter table "replies" add constraint "replies_chat_session_id_foreign" foreign key ("chat_session_id") references "chat_sessions" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "replies" add constraint "replies_retry_of_id_foreign" foreign key ("retry_of_id") references "replies" ("id") on delete no action;`,
    );

    this.addSql(
      `alter table "messages" add constraint "messages_chat_session_id_foreign" foreign key ("chat_session_id") references "chat_sessions" ("id") on delete cascade;`,
    );
    this.addSql(
      `alter table "messages" add constraint "messages_reply_id_foreign" foreign key ("reply_id") references "replies" ("id") on delete no action;`,
    );
  }
}
