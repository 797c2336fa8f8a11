import { Migration } from '@mikro-orm/migrations';

/**
 * What a post and the end of a reply do, each in one round trip. Their callers in `conversations/reply-store` say what each
 * is for, and map what it gives back. Rows are given as JSON, whose times do not depend on a session's settings.
 */
export class Migration20261127143000_round_trips extends Migration {
  override name = 'Migration20261127143000_round_trips';

  override up(): void | Promise<void> {
    // The replies that one was made instead of: the nearest is 1 back.
    this.addSql(`
      create function earlier_replies(of_reply uuid)
      returns table (id uuid, status text, finish_reason text, back int) language sql stable as $$
        with recursive earlier as (
          select before.id, before.retry_of_id, before.status, before.finish_reason, 1 as back
          from replies this join replies before on before.id = this.retry_of_id where this.id = of_reply
          union all
          select before.id, before.retry_of_id, before.status, before.finish_reason, earlier.back + 1
          from earlier join replies before on before.id = earlier.retry_of_id)
        select earlier.id, earlier.status, earlier.finish_reason, earlier.back from earlier
      $$;`);

    this.addSql(`
      create function post_message(
        of_session uuid, is_enabled boolean, said text, chars int, sent_as text, new_message uuid, new_reply uuid,
        asked_by text, max_age_ms int, max_session_messages int, max_session_chars float8, max_reply_messages int,
        max_reply_chars int, max_unanswered int, unanswered_seconds int,
        out outcome text, out message json, out reply json)
      language plpgsql as $$
      declare
        session chat_sessions;
        known messages;
        unfinished replies;
        queued replies;
        waiting uuid[] := '{}';
        joined record;
        answer uuid;
        at timestamptz := clock_timestamp();
      begin
        select * into session from chat_sessions s where s.id = of_session for update;
        if not found then
          outcome := 'gone';
          return;
        end if;
        if sent_as is not null then
          select * into known from messages m where m.chat_session_id = of_session and m.client_message_id = sent_as;
          if found then
            outcome := case when known.content = said then 'known' else 'reused' end;
            message := row_to_json(known);
            select row_to_json(found_reply) into reply from (
              select r.*, (select m.id from messages m where m.reply_id = r.id and m.sender = 'ai') as message_id
              from replies r where r.id = known.reply_id) as found_reply;
            return;
          end if;
        end if;
        if not is_enabled then
          outcome := 'disabled';
          return;
        end if;
        if session.message_count + 1 > max_session_messages or session.message_chars + chars > max_session_chars then
          outcome := 'session_full';
          return;
        end if;
        -- Locked, so that a claim waits until this message is committed, or has happened before it.
        for unfinished in
          select * from replies r where r.chat_session_id = of_session and r.status in ('queued', 'in_progress') for update
        loop
          waiting := waiting || unfinished.id;
          if unfinished.status = 'queued' then queued := unfinished; end if;
        end loop;
        if max_unanswered is not null and cardinality(waiting) > 0 and max_unanswered <= (
          select count(*) from messages m where m.reply_id = any(waiting) and m.sender = 'user'
            and m.created_at > clock_timestamp() - unanswered_seconds * interval '1 second') then
          outcome := 'unanswered';
          return;
        end if;
        if queued.id is not null then
          if queued.retry_of_id is not null then
            select e.id into answer from earlier_replies(queued.id) e
            where e.status = 'completed' and e.finish_reason <> 'budget' order by e.back limit 1;
          end if;
          if answer is null then
            select count(*) as messages, coalesce(sum(char_length(m.content)), 0) as chars into joined
            from messages m where m.reply_id = queued.id and m.sender = 'user';
          else
            select 0 as messages, 0 as chars into joined;
          end if;
          if joined.messages >= max_reply_messages or joined.chars + chars > max_reply_chars then
            outcome := 'reply_full';
            return;
          end if;
          -- Where the messages of a queued retry have an answer, they go back to it, and the retry is a reply as any other.
          if answer is not null then
            update messages m set reply_id = answer where m.reply_id = queued.id and m.sender = 'user';
          end if;
          update replies r set message_count = r.message_count + 1,
            retry_of_id = case when answer is null then r.retry_of_id end
          where r.id = queued.id returning * into queued;
        else
          -- The first of a session may go, and its age counts, from now; who finishes the reply before another enqueues that.
          insert into replies (id, chat_session_id, chatbot_id, request_id, message_count, available_at, deadline_at,
            dispatch_count, dispatched_at)
          select new_reply, of_session, session.chatbot_id, asked_by, 1, f.at,
            f.at + max_age_ms * interval '1 millisecond', case when f.at is null then 0 else 1 end, f.at
          from (select case when cardinality(waiting) = 0 then at end as at) as f
          returning * into queued;
        end if;
        update chat_sessions s set message_count = s.message_count + 1, message_chars = s.message_chars + chars,
          last_message_at = clock_timestamp(), active_at = clock_timestamp()
        where s.id = of_session returning * into session;
        insert into messages (id, chat_session_id, sequence, sender, content, reply_id, client_message_id, created_at)
        values (new_message, of_session, session.message_count, 'user', said, queued.id, sent_as, session.last_message_at)
        returning * into known;
        outcome := 'stored';
        message := row_to_json(known);
        reply := row_to_json(queued);
      end $$;`);

    // What every end of a reply has: its message, and the reply behind it, which may go now. Under the session's lock.
    this.addSql(`
      create function close_reply(of_session uuid, of_reply uuid, said text, chars int, new_message uuid, max_age_ms int,
        out message json, out next json)
      language plpgsql as $$
      declare
        session chat_sessions;
        stored messages;
        successor replies;
      begin
        if said is not null then
          update chat_sessions s set message_count = s.message_count + 1, message_chars = s.message_chars + chars,
            last_message_at = clock_timestamp(), active_at = clock_timestamp()
          where s.id = of_session returning * into session;
          insert into messages (id, chat_session_id, sequence, sender, content, reply_id, created_at)
          values (new_message, of_session, session.message_count, 'ai', said, of_reply, session.last_message_at)
          returning * into stored;
          message := row_to_json(stored);
        end if;
        update replies r set available_at = clock_timestamp(),
          deadline_at = clock_timestamp() + max_age_ms * interval '1 millisecond',
          dispatch_count = r.dispatch_count + 1, dispatched_at = clock_timestamp()
        where r.chat_session_id = of_session and r.status = 'queued' and r.available_at is null
        returning * into successor;
        if found then next := row_to_json(successor); end if;
      end $$;`);

    this.addSql(`
      create function complete_reply(
        of_session uuid, of_reply uuid, lease uuid, said text, chars int, new_message uuid, reason text,
        tokens_in int, tokens_out int, estimated boolean, first_token_ms float8, max_age_ms int,
        out reply json, out message json, out next json)
      language plpgsql as $$
      declare
        ended replies;
        first_token timestamptz := clock_timestamp() - first_token_ms * interval '1 millisecond';
      begin
        perform 1 from chat_sessions s where s.id = of_session for update;
        update replies r set status = 'completed', finished_at = clock_timestamp(), lease_token = null, lease_until = null,
          first_token_at = coalesce(r.first_token_at, first_token),
          attempt_first_token_at = coalesce(r.attempt_first_token_at, first_token),
          finish_reason = reason, partial_text = null, input_tokens = tokens_in, output_tokens = tokens_out,
          is_usage_estimated = estimated,
          -- Without tokens no model was asked, whatever an earlier attempt had noted; what that came to is spent.
          spent_input_tokens = r.spent_input_tokens
            + case when tokens_in is null and r.output_tokens is not null then coalesce(r.input_tokens, 0) else 0 end,
          spent_output_tokens = r.spent_output_tokens + case when tokens_in is null then coalesce(r.output_tokens, 0) else 0 end,
          model = case when tokens_in is null then null else r.model end,
          characteristics_used = case when tokens_in is null then null else r.characteristics_used end,
          characteristics_of = case when tokens_in is null then null else r.characteristics_of end
        where r.id = of_reply and r.lease_token = lease and r.status = 'in_progress'
        returning * into ended;
        if not found then return; end if;
        if ended.retry_of_id is not null and reason <> 'budget' then
          update messages m set superseded_by = of_reply
          where m.sender = 'ai' and m.superseded_by is null
            and m.reply_id = any (array(select e.id from earlier_replies(of_reply) e));
        end if;
        select c.message, c.next into message, next
        from close_reply(of_session, of_reply, said, chars, new_message, max_age_ms) c;
        reply := row_to_json(ended);
      end $$;`);
  }

  override down(): void | Promise<void> {
    this.addSql(
      'drop function complete_reply(uuid, uuid, uuid, text, int, uuid, text, int, int, boolean, float8, int);',
    );
    this.addSql('drop function close_reply(uuid, uuid, text, int, uuid, int);');
    this.addSql(
      'drop function post_message(uuid, boolean, text, int, text, uuid, uuid, text, int, int, float8, int, int, int, int);',
    );
    this.addSql('drop function earlier_replies(uuid);');
  }
}
