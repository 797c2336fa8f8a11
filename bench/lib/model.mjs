// A model that answers as its name says: `<kind>:<tokens>:<ms>:<first ms>`, so many tokens over so long, the first one after so
// long. Tokens of the kind `stamped` say when they were sent, by a clock that all processes of the machine share.
import { createServer } from 'node:http';
import { listen, ready } from './program.mjs';
import { stamp } from './stamps.mjs';

/** @param {object} delta @param {string | null} finish_reason */
const chunk = (delta, finish_reason = null) =>
  `data: ${JSON.stringify({ id: 'x', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
const END = `${chunk({}, 'stop')}data: {"choices":[],"usage":{"prompt_tokens":50,"completion_tokens":20,"total_tokens":70}}\n\ndata: [DONE]\n\n`;

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const [kind, tokens, ms, firstMs] = JSON.parse(Buffer.concat(parts).toString()).model.split(':');
  const [count, durationMs] = [Number(tokens), Number(ms)];
  let sent = 0;
  /** @param {number} upTo */
  const send = (upTo) => {
    let text = '';
    for (; sent < upTo; sent++) {
      text += chunk({
        ...(sent === 0 && { role: 'assistant' }),
        content: kind === 'stamped' ? stamp() : 'word ',
      });
    }
    if (sent === count) response.end(text + END);
    else if (text !== '') response.write(text);
  };
  setTimeout(
    () => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      if (durationMs === 0) return send(count);
      const begun = performance.now();
      send(1);
      const timer = setInterval(
        () => {
          send(Math.min(count, 1 + Math.floor(((performance.now() - begun) / durationMs) * (count - 1))));
          if (sent === count || response.destroyed) clearInterval(timer);
        },
        Math.max(1, Math.floor(durationMs / count)),
      );
    },
    Number(firstMs ?? 0),
  );
});
server.keepAliveTimeout = 60_000;
ready({ url: `${await listen(server)}/v1` });
