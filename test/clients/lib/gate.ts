import { once } from 'node:events';
import {
  createServer,
  type IncomingMessage,
  request as send,
  type ClientRequest,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';

/** A stream on its way through the gate. */
interface Stream {
  response: ServerResponse;
  upstream: ClientRequest;
}

/**
 * The way from the clients to the apis: a reverse proxy that knows HTTP, so that it can also end a body as if it were whole,
 * as proxies with a time limit do. Each request goes to the first api that accepts it.
 */
export interface Gate {
  url: string;
  /** Base URLs, in the order in which they are tried; may be changed at any time. */
  targets: string[];
  /** How many streams of a session are open through it. */
  streams(sessionId: string): number;
  /** The connections of a session's streams break. */
  cut(sessionId: string): void;
  /** The session's streams end cleanly, wherever they are. */
  endCleanly(sessionId: string): void;
  /** The next message with this text reaches the apis twice, at once; its sender sees one answer. */
  sendTwice(text: string): void;
  close(): Promise<void>;
}

export async function startGate(): Promise<Gate> {
  const streams = new Map<string, Set<Stream>>();
  const toBeDoubled = new Set<string>();
  const streamsOf = (sessionId: string): Set<Stream> => {
    const found = streams.get(sessionId) ?? new Set();
    streams.set(sessionId, found);
    return found;
  };

  /** Those of now, which count no more. */
  const taken = (sessionId: string): Stream[] => {
    const found = [...streamsOf(sessionId)];
    streams.delete(sessionId);
    return found;
  };

  const server = createServer((request, response) => {
    void pass(request, response).catch(() => response.destroy());
  });

  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = Buffer.concat(parts);
    const sessionId = /^\/v1\/sessions\/([^/?]+)/.exec(request.url ?? '')?.[1] ?? '';
    const isPost = request.method === 'POST' && /\/(chat|messages)$/.test(request.url ?? '');
    const doubled = isPost && [...toBeDoubled].find((text) => body.includes(text));
    if (doubled) {
      toBeDoubled.delete(doubled);
      void ask(request, body).then(({ answer }) => answer.resume());
    }
    const { upstream, answer } = await ask(request, body);
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    const stream = { response, upstream };
    if (answer.headers['content-type']?.startsWith('text/event-stream')) {
      streamsOf(sessionId).add(stream);
    }
    response.once('close', () => {
      streamsOf(sessionId).delete(stream);
      upstream.destroy();
    });
    answer.on('data', (data) => response.write(data));
    answer.once('end', () => response.end());
    answer.once('error', () => response.destroy()); // broken off there, so here as well
    response.flushHeaders();
  }

  async function ask(
    request: IncomingMessage,
    body: Buffer,
  ): Promise<{ upstream: ClientRequest; answer: IncomingMessage }> {
    for (const target of gate.targets) {
      const upstream = send(target + request.url, {
        method: request.method,
        headers: { ...request.headers, connection: 'close' },
        agent: false,
      });
      upstream.on('error', () => undefined); // of later: its answer breaks off
      upstream.end(body);
      try {
        const [answer] = (await once(upstream, 'response')) as [IncomingMessage];
        answer.on('error', () => undefined);
        return { upstream, answer };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw error;
      }
    }
    throw new Error('no api is there');
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const gate: Gate = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    targets: [],
    streams: (sessionId) => streamsOf(sessionId).size,
    cut(sessionId) {
      for (const { response } of taken(sessionId)) response.socket?.resetAndDestroy();
    },
    endCleanly(sessionId) {
      for (const { response } of taken(sessionId)) response.end();
    },
    sendTwice: (text) => void toBeDoubled.add(text),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return gate;
}
