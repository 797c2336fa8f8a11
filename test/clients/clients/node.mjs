// A process of its own for a client that runs in Node.js: it is told what to do by messages, and tells what a person would
// see. Jest would give the packages another realm's TypeError, by which the AI SDK knows a broken connection.
const { open } = await import(new URL(process.argv[2], import.meta.url).href);

const show = (screen) => process.send?.({ screen });

process.on('message', async ({ id, method, args }) => {
  try {
    await methods[method](...args);
    process.send?.({ id });
  } catch (error) {
    process.send?.({ id, error: String(error) });
  }
});

const methods = await open(JSON.parse(process.argv[3]), show);
process.send?.({ isOpen: true });
