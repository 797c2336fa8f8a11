import { useAssistly } from 'assistly-client/react';
import { describe, expect, it } from '@jest/globals';

// React's types bring a DOM of their own, which would stand in the way of what other tests say of browsers.
const load = (name: string): Promise<any> => import(name);
const { createElement } = await load('react');
const { renderToString } = await load('react-dom/server');

/** React on a server. In a browser: integration/client-in-browser. */

describe('useAssistly', () => {
  it('renders on a server, where it opens nothing', () => {
    const asked: unknown[] = [];
    const Page = () => {
      const { status, messages, reply } = useAssistly({
        baseUrl: 'http://api',
        chatbotId: 'bot',
        fetch: (url) => {
          asked.push(url);
          return Promise.reject(new TypeError('no network'));
        },
      });
      return createElement('p', null, `${status} ${messages.length} ${String(reply)}`);
    };

    expect(renderToString(createElement(Page))).toBe('<p>opening 0 null</p>');
    expect(asked).toEqual([]);
  });
});
