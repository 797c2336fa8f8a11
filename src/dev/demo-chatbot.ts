import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What it is told can be asked of it without any model: its answers are found in its characteristics. */
const DEMO = {
  name: 'Corner Bakery',
  greeting:
    'Hello! I answer for the **Corner Bakery**. Ask me about our bread, our opening hours, or how to order a cake.',
  characteristics: [
    'We are open from 7:00 to 18:00, Monday to Saturday. On Sundays and public holidays we are closed.',
    'Our rye bread is baked with sourdough only, without yeast, and contains no milk and no eggs.',
    'Cakes are made to order: order two days ahead, by phone or in the shop, and pay when you collect them.',
    'We deliver to cafés and offices within the city from an order of 30 euros, free of charge.',
    'The shop is at Market Square 4, next to the fountain. Trams 2 and 9 stop in front of the door.',
    'Gluten-free rolls are baked on Wednesdays and Fridays, in an oven of their own.',
  ],
  appearance: {
    suggestions: ['When are you open?', 'Is the rye bread vegan?', 'How do I order a cake?'],
    placeholder: 'Ask the bakery',
  },
};

interface DemoOptions {
  /** Of the embedded database: what is remembered here goes with it. */
  directory: string;
  create: (chatbot: typeof DEMO) => Promise<string>;
  exists: (id: string) => Promise<boolean>;
}

/**
 * The chatbot to try it out with, made once for each database: one that was deleted stays so.
 *
 * @returns its id; null where it was deleted
 */
export async function demoChatbot({ directory, create, exists }: DemoOptions): Promise<string | null> {
  const mark = join(directory, 'demo-chatbot');
  if (existsSync(mark)) {
    const id = readFileSync(mark, 'utf8').trim();
    return (await exists(id)) ? id : null;
  }
  const id = await create(DEMO);
  writeFileSync(mark, `${id}\n`);
  return id;
}
