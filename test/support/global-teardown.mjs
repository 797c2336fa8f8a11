export default async function globalTeardown() {
  for (const stop of globalThis.assistlyTestServices) await stop();
}
