// `useChat` without React: the `Chat` that the hook makes of its options, and its transport. What the hook itself does with
// `resume: true` is done here.

/**
 * @param {{ api: string, token: string, major: number }} session
 * @param {(screen: object) => void} show
 */
export async function open({ api, token, major }, show) {
  const { Chat } = await import(`react-ai${major}`);
  const { DefaultChatTransport } = await import(`ai${major}`);
  const headers = { Authorization: `Bearer ${token}` };
  const messages = await (await fetch(api, { headers })).json();
  const chat = new Chat({ messages, transport: new DefaultChatTransport({ api, headers }) });

  const tell = () =>
    show({
      status: { submitted: 'busy', streaming: 'busy' }[chat.status] ?? chat.status,
      error: chat.error?.message ?? null,
      messages: chat.messages.map(({ role, parts }) => ({
        role,
        text: parts.map((part) => (part.type === 'text' ? part.text : '')).join(''),
      })),
    });
  for (const each of ['Messages', 'Status', 'Error']) chat[`~register${each}Callback`](tell);

  tell();
  void chat.resumeStream();
  return {
    send: (text) => void chat.sendMessage({ text }),
    stop: async () => {
      void fetch(`${api}/stop`, { method: 'POST', headers, keepalive: true });
      await chat.stop();
    },
    resume: () => void chat.resumeStream(),
    regenerate: () => void chat.regenerate(),
  };
}
