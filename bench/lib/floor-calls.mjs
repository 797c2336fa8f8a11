// A model that is asked in two ways: by as little as it takes, and by the package that everybody has.
import { Agent, request as httpRequest } from 'node:http';
import OpenAI from 'openai';

const agent = new Agent({ keepAlive: true });

/**
 * @callback Ask
 * @param {string} url
 * @param {string} model
 * @param {any[]} messages
 * @param {(text: string) => void} [onText]
 * @returns {Promise<string>} the whole answer
 */

/** @type {Ask} */
export const askBare = (url, model, messages, onText) =>
  new Promise((resolve, reject) => {
    const request = httpRequest(
      `${url}/chat/completions`,
      { agent, method: 'POST', headers: { 'content-type': 'application/json' } },
      (response) => {
        let answer = '';
        let rest = '';
        response.setEncoding('utf8');
        response.on('error', reject);
        response.on('data', (part) => {
          const lines = (rest + part).split('\n\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            if (!line.startsWith('data: {')) continue;
            const text = JSON.parse(line.slice('data: '.length)).choices[0]?.delta.content ?? '';
            if (text === '') continue;
            answer += text;
            onText?.(text);
          }
        });
        response.on('end', () => resolve(answer));
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify({ model, messages, stream: true, stream_options: { include_usage: true } }));
  });

/** @type {Map<string, OpenAI>} */
const clients = new Map();

/** @type {Ask} */
export const askByPackage = async (url, model, messages, onText) => {
  let client = clients.get(url);
  if (!client) clients.set(url, (client = new OpenAI({ baseURL: url, apiKey: 'none', maxRetries: 0 })));
  const stream = await client.chat.completions.create({
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
  });
  let answer = '';
  for await (const { choices } of stream) {
    const text = choices[0]?.delta.content ?? '';
    if (text === '') continue;
    answer += text;
    onText?.(text);
  }
  return answer;
};
