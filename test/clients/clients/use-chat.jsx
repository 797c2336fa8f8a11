// The page of the AI SDK's documentation: chatbot, error state, resume, and a stop that the server is told of. Which major
// version these names are is said when it is built.
import { useChat } from '@ai-sdk/react';
import { DefaultChatTransport } from 'ai';
import { useState } from 'react';
import { createRoot } from 'react-dom/client';
import { chat as api, headers, history, stopOnServer } from './page.js';

function Page({ initial }) {
  const { messages, sendMessage, status, error, stop, regenerate, resumeStream } = useChat({
    messages: initial,
    resume: true,
    transport: new DefaultChatTransport({ api, headers }),
  });
  const [input, setInput] = useState('');
  const isBusy = status === 'submitted' || status === 'streaming';

  return (
    <main data-status={isBusy ? 'busy' : status}>
      {messages.map((message) => (
        <p key={message.id} data-role={message.role}>
          {message.parts.map((part, index) =>
            part.type === 'text' ? <span key={index}>{part.text}</span> : null,
          )}
        </p>
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void sendMessage({ text: input });
          setInput('');
        }}
      >
        <input aria-label="Message" value={input} onChange={(event) => setInput(event.target.value)} />
        <button type="submit">Send</button>
        <button
          type="button"
          onClick={() => {
            void stopOnServer();
            void stop();
          }}
        >
          Stop
        </button>
        <button type="button" onClick={() => void resumeStream()}>
          Resume
        </button>
        <button type="button" onClick={() => void regenerate()}>
          Retry
        </button>
      </form>
    </main>
  );
}

const initial = await history();
createRoot(document.getElementById('root')).render(<Page initial={initial} />);
