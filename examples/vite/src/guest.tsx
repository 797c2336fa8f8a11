import { useAssistly } from 'assistly-client/react';
import { useEffect, useRef } from 'react';

/** The guest's side: a chat, which needs no Clerk. What is said is shown as text, never as HTML. */
export function Guest({ baseUrl, chatbotId }: { baseUrl: string; chatbotId: string }) {
  const chat = useAssistly({ baseUrl, chatbotId });
  const { messages, reply, status, error } = chat;
  const isWriting = reply?.status === 'queued' || reply?.status === 'in_progress';
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    end.current?.scrollIntoView({ block: 'end' });
  }, [messages.length, reply?.text]);

  return (
    <main className="guest">
      <div className="messages" aria-live="polite">
        {chat.hasEarlier && <button onClick={() => void chat.loadEarlier()}>Earlier</button>}
        {messages.map(({ key, sender, content, state, problem }) => (
          <p key={key} className={`message ${sender} ${state}`}>
            {content}
            {state === 'not_sent' && (
              <button title={problem?.detail} onClick={() => chat.resend(key)}>
                Not sent. Again?
              </button>
            )}
          </p>
        ))}
        {isWriting && <p className="message ai">{reply.text || '…'}</p>}
        {reply?.status === 'failed' && (
          <p className="problem">
            {reply.error?.detail} <button onClick={() => void chat.retry()}>Ask again</button>
          </p>
        )}
        {error && <p className="problem">{error.detail}</p>}
        <div ref={end} />
      </div>
      <form
        action={(form) => {
          chat.send(String(form.get('text')));
        }}
      >
        <input
          name="text"
          aria-label="Message"
          placeholder="Write a message"
          autoComplete="off"
          required
          autoFocus
        />
        {isWriting ? (
          <button type="button" onClick={() => void chat.stop()}>
            Stop
          </button>
        ) : (
          <button>Send</button>
        )}
      </form>
      <small>{status === 'reconnecting' ? 'Connecting again …' : ' '}</small>
    </main>
  );
}
