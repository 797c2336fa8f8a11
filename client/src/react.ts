import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from 'react';
import { createChat } from './chat.js';
import type { Chat, ChatActions, ChatOptions, ChatSnapshot } from './chat-types.js';

/** Before the page is there, and where it is made on a server. */
const BEFORE: ChatSnapshot = {
  status: 'opening',
  messages: [],
  reply: null,
  error: null,
  hasEarlier: false,
};
const getBefore = (): ChatSnapshot => BEFORE;
const subscribeToNothing = () => (): void => undefined;

/**
 * A chat for as long as the component is there. `baseUrl` and `chatbotId` say which; the other options are read when it
 * begins.
 */
export function useAssistly(options: ChatOptions): ChatSnapshot & ChatActions {
  const { baseUrl, chatbotId } = options;
  const latest = useRef(options);
  latest.current = options;
  const [chat, setChat] = useState<Chat | null>(null);
  useEffect(() => {
    const begun = createChat(latest.current);
    setChat(begun);
    return () => {
      begun.close();
      setChat(null);
    };
  }, [baseUrl, chatbotId]);

  const snapshot = useSyncExternalStore(
    chat?.subscribe ?? subscribeToNothing,
    chat?.getSnapshot ?? getBefore,
    getBefore,
  );
  const actions = useMemo<ChatActions>(
    () => ({
      send: (text) => chat?.send(text) ?? '',
      resend: (key) => chat?.resend(key),
      stop: async () => chat?.stop(),
      retry: async () => chat?.retry(),
      regenerate: async () => chat?.regenerate(),
      loadEarlier: async () => chat?.loadEarlier(),
    }),
    [chat],
  );
  return useMemo(() => ({ ...snapshot, ...actions }), [snapshot, actions]);
}
