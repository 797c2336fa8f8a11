import type { RefObject, VNode } from 'preact';
import { useEffect, useLayoutEffect, useState } from 'preact/hooks';
import { useWords } from './context.js';
import { Icon } from './icons.js';

/** As the API counts: in code points. */
const MAX_LENGTH = 8_000;
const DRAFT_MS = 250;

interface ComposerProps {
  field: RefObject<HTMLTextAreaElement | null>;
  placeholder: string;
  /** What was typed before this page's script ran, or before a reload. */
  draft: string;
  isAnswering: boolean;
  onDraft: (text: string) => void;
  onSend: (text: string) => void;
  onStop: () => void;
}

/** The field for the next message. It keeps the text itself, so that no redrawing gets between a person and the keys. */
export function Composer(props: ComposerProps): VNode {
  const { field, placeholder, draft, isAnswering, onDraft, onSend, onStop } = props;
  const words = useWords();
  const [text, setText] = useState(draft);
  const excess = text.length > MAX_LENGTH ? [...text].length - MAX_LENGTH : 0;
  const maySend = text.trim() !== '' && excess <= 0;

  const fit = (): void => {
    const area = field.current;
    if (!area || CSS.supports('field-sizing', 'content')) return;
    area.rows = 1;
    const { lineHeight, paddingTop, paddingBottom } = getComputedStyle(area);
    const lines =
      (area.scrollHeight - parseFloat(paddingTop) - parseFloat(paddingBottom)) / parseFloat(lineHeight);
    area.rows = Math.min(6, Math.max(1, Math.round(lines)));
  };
  useLayoutEffect(() => {
    field.current!.value = draft;
    setText(draft);
    fit();
  }, [draft]);
  useEffect(() => {
    const timer = setTimeout(() => onDraft(text), DRAFT_MS);
    return () => clearTimeout(timer);
  }, [text]);

  const send = (): void => {
    if (!maySend) return;
    onSend(text.trim());
    field.current!.value = '';
    setText('');
    onDraft('');
    fit();
    field.current!.focus();
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div class="field">
        <textarea
          ref={field}
          rows={1}
          dir="auto"
          aria-label={words.message}
          aria-describedby="small-print"
          aria-invalid={excess > 0}
          placeholder={placeholder}
          enterkeyhint="send"
          onInput={({ currentTarget }) => {
            setText(currentTarget.value);
            fit();
          }}
          onKeyDown={(event) => {
            // While a word is composed, Enter chooses it.
            const isComposing = event.isComposing || event.keyCode === 229;
            if (event.key !== 'Enter' || event.shiftKey || isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        {isAnswering && (
          <button
            type="button"
            class="round stop"
            aria-label={words.stop}
            title={words.stop}
            onClick={onStop}
          >
            <Icon name="stop" />
          </button>
        )}
        {(!isAnswering || maySend) && (
          <button
            type="submit"
            class="round send"
            aria-label={words.send}
            title={words.send}
            aria-disabled={!maySend}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
      {excess > 0 && (
        <p class="problem" role="alert">
          {words.tooLong.replace('{count}', String(excess))}
        </p>
      )}
    </form>
  );
}
