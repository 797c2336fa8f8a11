import { Migration } from '@mikro-orm/migrations';

/** The state `paused` of a reply whose attempt is over: as `sealed`, but for the start of a higher attempt, which opens it. */
const PAUSE = `
ALTER TABLE event_stream_replies DROP CONSTRAINT event_stream_replies_state_check,
  ADD CONSTRAINT event_stream_replies_state_check CHECK (state IN ('open', 'paused', 'sealed', 'final'));

-- Takes an array of EntryRecord, gives an AppendResult. Nothing is written before every entry is accepted.
CREATE OR REPLACE FUNCTION event_stream_append(session uuid, entries jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
  stream event_streams;
  entry record;
  -- The state of the entry's reply as the entries before it leave it; all null where there is none.
  reply event_stream_replies;
  replies jsonb := '{}';
  accepted event_stream_entries[] := '{}';
  next_seq int;
BEGIN
  stream := event_stream_lock(session);
  IF stream.erased_at IS NOT NULL THEN
    RETURN jsonb_build_object('status', 'refused');
  END IF;
  next_seq := stream.head + 1;

  FOR entry IN
    SELECT * FROM jsonb_to_recordset(entries) AS record(
      type text, key text, data text, "replyId" uuid, attempt int, effect text, "offset" int, length int,
      "endsLater" boolean)
  LOOP
    IF entry.key IS NOT NULL AND (
      EXISTS (SELECT FROM event_stream_entries known WHERE known.session_id = session AND known.key = entry.key)
      OR EXISTS (SELECT FROM unnest(accepted) known WHERE known.key = entry.key)
    ) THEN
      CONTINUE;
    END IF;

    IF entry.effect IS NOT NULL THEN
      IF replies ? entry."replyId"::text THEN
        reply := jsonb_populate_record(NULL::event_stream_replies, replies -> entry."replyId"::text);
      ELSE
        SELECT known.* INTO reply FROM event_stream_replies known
          WHERE known.session_id = session AND known.reply_id = entry."replyId";
      END IF;

      IF entry.attempt < reply.attempt THEN
        RETURN jsonb_build_object('status', 'refused');
      END IF;

      IF entry.effect = 'start' THEN
        IF reply.state = 'final' OR (reply.state = 'sealed' AND NOT entry."endsLater") THEN
          RETURN jsonb_build_object('status', 'refused');
        END IF;
        IF reply.attempt IS NULL OR entry.attempt > reply.attempt THEN
          reply.attempt := entry.attempt;
          reply.length := 0;
          reply.after_seq := next_seq;
          reply.state := CASE WHEN reply.state = 'sealed' THEN 'sealed' ELSE 'open' END;
        ELSIF reply.state = 'paused' AND NOT entry."endsLater" THEN
          RETURN jsonb_build_object('status', 'refused');
        END IF;

      ELSIF entry.effect = 'pause' THEN
        IF reply.state IN ('sealed', 'final') THEN
          RETURN jsonb_build_object('status', 'refused');
        END IF;
        IF reply.attempt IS NULL OR entry.attempt > reply.attempt THEN
          reply.attempt := entry.attempt;
          reply.length := 0;
          reply.after_seq := next_seq;
        END IF;
        reply.state := 'paused';

      ELSIF entry.effect = 'delta' THEN
        IF reply.attempt IS NULL OR entry.attempt > reply.attempt THEN
          RETURN event_stream_behind(entry."replyId", reply);
        END IF;
        IF reply.state = 'final' OR (reply.state IN ('sealed', 'paused') AND NOT entry."endsLater") THEN
          RETURN jsonb_build_object('status', 'refused');
        END IF;
        IF entry."offset" + entry.length <= reply.length THEN
          CONTINUE;
        END IF;
        IF entry."offset" <> reply.length THEN
          RETURN event_stream_behind(entry."replyId", reply);
        END IF;
        reply.length := reply.length + entry.length;

      ELSE
        IF entry.length > 0 AND reply.attempt IS NULL
          OR entry.length IS NOT NULL AND (reply.attempt <> entry.attempt OR reply.length <> entry.length)
        THEN
          RETURN event_stream_behind(entry."replyId", reply);
        END IF;
        reply.attempt := entry.attempt;
        reply.length := coalesce(reply.length, 0);
        reply.after_seq := coalesce(reply.after_seq, next_seq);
        reply.state := 'final';
      END IF;

      reply.session_id := session;
      reply.reply_id := entry."replyId";
      reply.touched_at := now();
      replies := replies || jsonb_build_object(entry."replyId", to_jsonb(reply));
    END IF;

    accepted := accepted || ROW(
      session, next_seq, entry.type, entry.key,
      CASE WHEN entry.effect = 'delta' THEN entry."replyId" END,
      entry.data, now()
    )::event_stream_entries;
    next_seq := next_seq + 1;
  END LOOP;

  IF next_seq > stream.head + 1 THEN
    INSERT INTO event_stream_entries SELECT * FROM unnest(accepted);
    INSERT INTO event_stream_replies
      SELECT changed.* FROM jsonb_each(replies) AS each(id, state),
        jsonb_populate_record(NULL::event_stream_replies, each.state) AS changed
      ON CONFLICT (session_id, reply_id) DO UPDATE SET attempt = excluded.attempt, length = excluded.length,
        after_seq = excluded.after_seq, state = excluded.state, touched_at = excluded.touched_at;
    UPDATE event_streams SET head = next_seq - 1, touched_at = now() WHERE session_id = session;
  END IF;
  RETURN jsonb_build_object(
    'status', 'appended',
    'cursor', jsonb_build_object('generation', stream.generation, 'seq', next_seq - 1)
  );
END $$;
`;

export class Migration20261126185644_paused_replies extends Migration {
  override name = 'Migration20261126185644_paused_replies';

  override up(): void | Promise<void> {
    this.addSql(PAUSE);
  }

  override down(): void | Promise<void> {
    this.addSql(`UPDATE event_stream_replies SET state = 'open' WHERE state = 'paused'`);
  }
}
