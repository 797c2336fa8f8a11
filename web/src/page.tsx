import type { VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { Composer } from './composer.js';
import { useWords } from './context.js';
import { Header } from './header.js';
import { Introduction } from './introduction.js';
import { Messages } from './messages.js';
import type { Parent } from './parent.js';
import type { PageState, Store } from './store.js';

/** What the page was before its script ran. */
export interface FirstText {
  title: string;
  greeting: string | null;
  placeholder: string;
  draft: string;
  hasFocus: boolean;
  selection: [number, number];
}

interface PageProps {
  store: Store;
  parent: Parent;
  first: FirstText;
  language: string;
  onDraft: (text: string) => void;
}

function useStore(store: Store): PageState {
  const [state, setState] = useState(store.state);
  useEffect(() => {
    setState(store.state);
    return store.subscribe(() => setState(store.state));
  }, [store]);
  return state;
}

function useOnline(): boolean {
  const [isOnline, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const note = (): void => setOnline(navigator.onLine);
    addEventListener('online', note);
    addEventListener('offline', note);
    return () => {
      removeEventListener('online', note);
      removeEventListener('offline', note);
    };
  }, []);
  return isOnline;
}

export function Page({ store, parent, first, language, onDraft }: PageProps): VNode {
  const words = useWords();
  const { face, chat, trouble, isAsking, needsIdentity, isVerified, earlier, generation } = useStore(store);
  const isOnline = useOnline();
  const field = useRef<HTMLTextAreaElement>(null);
  const isByKeyboard = useRef(false);
  const { messages, reply, status, error } = chat;

  const title = face?.appearance.title ?? face?.name ?? first.title;
  const avatarUrl = face?.appearance.avatarUrl ?? null;
  const greeting = face ? (face.greeting?.replaceAll('{name}', '') ?? null) : first.greeting;
  const isAnswering = reply !== null && (reply.status === 'queued' || reply.status === 'in_progress');
  const isEmpty = !messages.some(({ sender }) => sender === 'user') && !chat.hasEarlier;
  const isReady = face !== null && !isAsking && !needsIdentity && face.isEnabled;
  const isCut = !isOnline || (trouble === 'unavailable' && face === null) || error?.code === 'network';

  useEffect(() => {
    if (!first.hasFocus) return;
    field.current?.focus();
    field.current?.setSelectionRange(...first.selection);
  }, []);
  useEffect(() => {
    const note = ({ type }: Event): void => {
      isByKeyboard.current = type === 'keydown';
    };
    document.addEventListener('keydown', note);
    document.addEventListener('pointerdown', note);
    return () => {
      document.removeEventListener('keydown', note);
      document.removeEventListener('pointerdown', note);
    };
  }, []);
  useEffect(() => {
    const shut = (event: KeyboardEvent): void => {
      if (event.key === 'Escape' && !event.defaultPrevented) parent.post({ type: 'close' });
    };
    document.addEventListener('keydown', shut);
    return () => document.removeEventListener('keydown', shut);
  }, []);

  // A button that has done its work may go with it: who works by keyboard goes on in the field.
  useEffect(() => {
    if (isByKeyboard.current && document.activeElement === document.body) field.current?.focus();
  }, [reply?.id, reply?.status, messages.length]);

  // What keeps a guest from writing is said where they would.
  const sentence =
    trouble === 'notFound'
      ? words.notFound
      : needsIdentity
        ? words.needsIdentity
        : face?.isEnabled === false
          ? words.disabled
          : null;

  return (
    <>
      <Header
        title={title}
        avatarUrl={avatarUrl}
        language={language}
        isVerified={isVerified}
        earlier={earlier}
        mayBegin={sentence === null}
        onBegin={() => {
          store.begin();
          field.current?.focus();
        }}
        onEarlier={() => void store.readEarlier()}
        onResume={(id) => void store.resume(id)}
        onClose={parent.isEmbedded ? () => parent.post({ type: 'close' }) : null}
      />
      <main>
        <Messages
          key={generation}
          chat={chat}
          greeting={greeting === '' ? null : greeting}
          title={title}
          avatarUrl={avatarUrl}
          language={language}
          onResend={store.resend}
          onRetry={store.retry}
          onRegenerate={store.regenerate}
          onEarlier={store.loadEarlier}
        >
          {isReady && isEmpty && face.appearance.suggestions.length > 0 && (
            <ul class="suggestions" aria-label={words.suggestions}>
              {face.appearance.suggestions.map((text) => (
                <li key={text}>
                  <button
                    type="button"
                    dir="auto"
                    onClick={() => {
                      store.send(text);
                      field.current?.focus();
                    }}
                  >
                    {text}
                  </button>
                </li>
              ))}
            </ul>
          )}
        </Messages>
        <div class="column bottom">
          {isCut && sentence === null && (
            <p class="note problem" role="status">
              {words.offline}
            </p>
          )}
          {status === 'ended' && sentence === null && !isCut && (
            <p class="note" role="status">
              {words.ended}
            </p>
          )}
          {sentence !== null ? (
            <p class="sentence" role="status">
              {sentence}
            </p>
          ) : isAsking ? (
            <Introduction isRequired={face?.appearance.askFor === 'required'} onDone={store.introduce} />
          ) : (
            <Composer
              field={field}
              placeholder={face?.appearance.placeholder ?? words.placeholder}
              draft={first.draft}
              isAnswering={isAnswering}
              onDraft={onDraft}
              onSend={store.send}
              onStop={store.stop}
            />
          )}
          <p id="small-print" class="small">
            {words.mayBeWrong}
          </p>
        </div>
      </main>
    </>
  );
}
