// assistant-ui's own runtime and primitives, as its documentation puts them together. Its storage of the stream to go on
// with is the tab's; where the history ends with a question, another tab has asked it, and the stream is there to be joined.
import {
  ActionBarPrimitive,
  AssistantRuntimeProvider,
  ComposerPrimitive,
  MessagePartPrimitive,
  MessagePrimitive,
  ThreadPrimitive,
} from '@assistant-ui/react';
import {
  AssistantChatTransport,
  createResumableSessionStorage,
  useAISDKChat,
  useChatRuntime,
} from '@assistant-ui/react-ai-sdk';
import { createRoot } from 'react-dom/client';
import { chat as api, headers, history, stopOnServer } from './page.js';

const messages = await history();
const storage = createResumableSessionStorage();
if (messages.at(-1)?.role === 'user') storage.setStreamId('of-another-tab');
const transport = new AssistantChatTransport({
  api,
  headers,
  resumable: { storage, resumeApi: (streamId) => `${api}/${streamId}/stream` },
});

/** Its default puts a dot behind a text that is not finished. */
const parts = { Text: () => <MessagePartPrimitive.Text component="span" /> };

const UserMessage = () => (
  <MessagePrimitive.Root data-role="user">
    <MessagePrimitive.Parts components={parts} />
  </MessagePrimitive.Root>
);

const AssistantMessage = () => (
  <MessagePrimitive.Root>
    <div data-role="assistant">
      <MessagePrimitive.Parts components={parts} />
    </div>
    <ActionBarPrimitive.Root>
      <ActionBarPrimitive.Reload>Retry</ActionBarPrimitive.Reload>
    </ActionBarPrimitive.Root>
  </MessagePrimitive.Root>
);

function Thread() {
  const chat = useAISDKChat();
  const { status, error } = chat ?? {};
  const isBusy = status === 'submitted' || status === 'streaming';
  return (
    <ThreadPrimitive.Root>
      <main data-status={isBusy ? 'busy' : status}>
        <ThreadPrimitive.Messages components={{ UserMessage, AssistantMessage }} />
        {error && <p role="alert">{error.message}</p>}
      </main>
      <ComposerPrimitive.Root>
        <ComposerPrimitive.Input aria-label="Message" />
        <ComposerPrimitive.Send>Send</ComposerPrimitive.Send>
        <ComposerPrimitive.Cancel onClick={() => void stopOnServer()}>Stop</ComposerPrimitive.Cancel>
      </ComposerPrimitive.Root>
      <button onClick={() => void chat?.resumeStream()}>Resume</button>
    </ThreadPrimitive.Root>
  );
}

function Page() {
  const runtime = useChatRuntime({ messages, transport });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <Thread />
    </AssistantRuntimeProvider>
  );
}

createRoot(document.getElementById('root')).render(<Page />);
