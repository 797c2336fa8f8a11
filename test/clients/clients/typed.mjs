// The typed client of client/, in Node.js: what its README shows. Its storage holds the session already, as after a reload.
import { createChat } from 'assistly-client';
import { screenOf, storageWith } from './typed-screen.js';

/** @param {{ api: string, token: string }} session @param {(screen: object) => void} show */
export async function open({ api, token }, show) {
  const [, baseUrl, id] = /^(.*)\/v1\/sessions\/([^/]*)/.exec(api);
  const chat = createChat({ baseUrl, chatbotId: 'of-the-session', storage: storageWith({ id, token }) });
  const tell = () => show(screenOf(chat.getSnapshot()));
  chat.subscribe(tell);
  tell();
  return { send: (text) => void chat.send(text), stop: () => chat.stop() };
}
