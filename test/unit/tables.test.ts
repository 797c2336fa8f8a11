import { beforeAll, describe, expect, it } from '@jest/globals';
import { MikroORM } from '@mikro-orm/postgresql';
import { ormOptions } from '../../mikro-orm.config.js';
import { now } from '../../src/database/database.js';
import type { Db, Tables } from '../../src/database/tables.js';

describe('statements', () => {
  let db: Db;
  beforeAll(() => {
    // Nothing here connects.
    db = new MikroORM(ormOptions('postgres://localhost/nowhere')).em.fork().getKysely<Tables>();
  });

  it('know the columns and the values of the entities, which the compiler checks', () => {
    // @ts-expect-error a misspelt column
    db.selectFrom('replies').select('sttus');
    // @ts-expect-error a misspelt table
    db.selectFrom('reply').selectAll();
    // @ts-expect-error a value that the column cannot have
    db.updateTable('replies').set({ status: 'done' });
    // @ts-expect-error a column that needs a value
    db.insertInto('messages').values({ id: 'x' });

    // Columns that may be null, or have a default, need none.
    const query = db
      .insertInto('replies')
      .values({ id: 'x', chat_session_id: 'y', available_at: now })
      .returning(['status', 'created_at'])
      .compile();
    expect(query.sql).toBe(
      'insert into "replies" ("id", "chat_session_id", "available_at") values ($1, $2, clock_timestamp()) returning "status", "created_at"',
    );
  });

  it('bind values: none stands in their text, which logs see', () => {
    const secret = "what a guest wrote: ' or true";
    const query = db.updateTable('messages').set({ content: secret }).where('id', '=', 'x').compile();
    expect(query.sql).not.toContain('guest');
    expect(query.parameters).toEqual([secret, 'x']);
  });
});
