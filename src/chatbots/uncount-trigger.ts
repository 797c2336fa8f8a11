import type { TriggerDef } from '@mikro-orm/core';

/**
 * A text that changes is not counted any more, whoever changes it: a version that knows nothing of counts, too.
 *
 * @param text the column of the text
 * @param tokens the column of its number of tokens; one that is not written along with the text is not known any more
 */
export const uncountTrigger = (text: string, tokens: string): TriggerDef => ({
  name: 'uncount',
  timing: 'before',
  events: ['update'],
  when: `(new.${text} IS DISTINCT FROM old.${text})`, // as PostgreSQL shows it, which the ORM compares it with
  body: `new.is_counted := false;
    if new.${tokens} is not distinct from old.${tokens} then new.${tokens} := null; end if;
    return new;`,
});
