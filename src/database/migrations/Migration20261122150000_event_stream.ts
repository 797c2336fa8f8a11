import { Migration } from '@mikro-orm/migrations';

/**
 * The tables and functions of the event stream on PostgreSQL, as its adapter expects them.
 *
 * UNLOGGED, because the stream may be lost and the rows tell it again: a delta costs no WAL, and its commit
 * waits for no fsync. After a crash of the server the tables are empty, and every stream begins anew with
 * another generation. No foreign keys: erasing is a call of its own, which also tells watchers, and
 * beginning a stream must not wait for a row of the truth.
 *
 * Functions, because an append reads the state of replies, decides, and writes: in one function that is one
 * round trip and one transaction, and the session's lock is never held while a packet travels. Each begins by
 * locking the row in `event_streams`; every later statement in it sees what the previous holder committed
 * (READ COMMITTED takes a snapshot for each statement).
 */
export class Migration20261122150000_event_stream extends Migration {
  override name = 'Migration20261122150000_event_stream';

  override up(): void {
    this.addSql(SQL);
  }
}

const SQL = /* SQL */ `
CREATE UNLOGGED TABLE event_streams (
  session_id uuid PRIMARY KEY,
  generation text NOT NULL DEFAULT right(replace(gen_random_uuid()::text, '-', ''), 16),
  head int NOT NULL DEFAULT 0,
  erased_at timestamptz,
  touched_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
-- No index on touched_at, here and below: each append would have to update it, which rules out HOT updates;
-- pruning scans instead, at leisure.

CREATE UNLOGGED TABLE event_stream_replies (
  session_id uuid NOT NULL,
  reply_id uuid NOT NULL,
  attempt int NOT NULL,
  -- The attempt's text: how much, in UTF-16 units, and the entry it comes after; before are those of lower
  -- attempts, and after it they are refused.
  length int NOT NULL,
  after_seq int NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'sealed', 'final')),
  touched_at timestamptz NOT NULL,
  PRIMARY KEY (session_id, reply_id)
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE event_stream_entries (
  session_id uuid NOT NULL,
  seq int NOT NULL,
  type text NOT NULL,
  -- Natural key of a fact.
  key text,
  -- Whose text it is, for a delta.
  reply_id uuid,
  data text NOT NULL,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (session_id, seq)
);
CREATE UNIQUE INDEX event_stream_entries_key ON event_stream_entries (session_id, key) WHERE key IS NOT NULL;
CREATE INDEX event_stream_entries_created_at ON event_stream_entries (created_at);

-- Locks a session's stream, and begins it where there is none.
CREATE FUNCTION event_stream_lock(session uuid) RETURNS event_streams LANGUAGE plpgsql AS $$
DECLARE
  stream event_streams;
BEGIN
  SELECT * INTO stream FROM event_streams WHERE session_id = session FOR UPDATE;
  IF NOT FOUND THEN
    INSERT INTO event_streams (session_id) VALUES (session)
      ON CONFLICT (session_id) DO UPDATE SET touched_at = now()
      RETURNING * INTO stream;
  END IF;
  RETURN stream;
END $$;

-- The text that watchers have of a reply. STABLE: it sees what the statement that calls it sees.
CREATE FUNCTION event_stream_text(reply event_stream_replies) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT coalesce(string_agg(entry.data::jsonb ->> 'text', '' ORDER BY entry.seq), '')
  FROM event_stream_entries entry
  WHERE entry.session_id = reply.session_id AND entry.seq > reply.after_seq
    AND entry.reply_id = reply.reply_id
$$;

-- The AppendResult that says what the stream has of a reply; all null where it knows nothing.
CREATE FUNCTION event_stream_behind(id uuid, reply event_stream_replies) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT jsonb_build_object('status', 'behind', 'replyId', id,
    'attempt', coalesce(reply.attempt, 0), 'length', coalesce(reply.length, 0))
$$;

-- Takes an array of EntryRecord, gives an AppendResult. Nothing is written before every entry is accepted.
CREATE FUNCTION event_stream_append(session uuid, entries jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
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
          reply.state := coalesce(reply.state, 'open');
        END IF;

      ELSIF entry.effect = 'delta' THEN
        IF reply.attempt IS NULL OR entry.attempt > reply.attempt THEN
          RETURN event_stream_behind(entry."replyId", reply);
        END IF;
        IF reply.state = 'final' OR (reply.state = 'sealed' AND NOT entry."endsLater") THEN
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

-- No row where the reply is unknown, or final: then its text is in the rows.
CREATE FUNCTION event_stream_seal(session uuid, sealed_reply uuid)
RETURNS TABLE (attempt int, length int, text text) LANGUAGE plpgsql AS $$
DECLARE
  stream event_streams := event_stream_lock(session);
BEGIN
  IF stream.erased_at IS NOT NULL THEN
    RETURN;
  END IF;
  -- Also a reply that has not spoken yet, as attempt 0: it may be about to.
  RETURN QUERY
    INSERT INTO event_stream_replies AS reply (session_id, reply_id, attempt, length, after_seq, state, touched_at)
      VALUES (session, sealed_reply, 0, 0, stream.head, 'sealed', now())
    ON CONFLICT (session_id, reply_id) DO UPDATE SET state = 'sealed', touched_at = now()
      WHERE reply.state <> 'final'
    RETURNING reply.attempt, reply.length, event_stream_text(reply);
END $$;

-- Forgets all but the generation and the numbering; leaves the given entry as the last one.
CREATE FUNCTION event_stream_erase(session uuid, type text, data text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  stream event_streams := event_stream_lock(session);
BEGIN
  IF stream.erased_at IS NOT NULL THEN
    RETURN;
  END IF;
  DELETE FROM event_stream_entries WHERE session_id = session;
  DELETE FROM event_stream_replies WHERE session_id = session;
  INSERT INTO event_stream_entries (session_id, seq, type, data, created_at)
    VALUES (session, stream.head + 1, type, data, now());
  UPDATE event_streams SET head = stream.head + 1, erased_at = now(), touched_at = now()
    WHERE session_id = session;
END $$;
`;
