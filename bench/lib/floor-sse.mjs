// What open streams are compared with: a server that keeps them open, and relays an answer of the model to whom it is for.
import { createServer } from 'node:http';
import { askBare } from './floor-calls.mjs';
import { input, listen, ready } from './program.mjs';

const KEEP_ALIVE_MS = 15_000;
const { modelUrl, model } = input();
/** @type {Map<string, import('node:http').ServerResponse>} by session */
const open = new Map();

const server = createServer((request, response) => {
  const id = request.url?.split('/')[3] ?? '';
  if (request.method === 'POST') {
    request.resume();
    response.writeHead(202).end();
    void askBare(modelUrl, model, [], (text) => {
      open.get(id)?.write(`event: reply.delta\ndata: ${JSON.stringify({ text })}\n\n`);
    });
    return;
  }
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(': hello\n\n');
  open.set(id, response);
  const timer = setInterval(() => response.write(': alive\n\n'), KEEP_ALIVE_MS);
  response.on('close', () => {
    clearInterval(timer);
    open.delete(id);
  });
});
ready({ url: await listen(server) });
