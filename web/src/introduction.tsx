import type { VNode } from 'preact';
import { useWords } from './context.js';
import type { Guest } from './store.js';

interface IntroductionProps {
  isRequired: boolean;
  onDone: (guest: Guest | null) => void;
}

/** Asks who is writing, before the first message. */
export function Introduction({ isRequired, onDone }: IntroductionProps): VNode {
  const words = useWords();
  return (
    <form
      class="introduction"
      aria-label={words.askTitle}
      onSubmit={(event) => {
        event.preventDefault();
        const fields = new FormData(event.currentTarget);
        const [name, email] = ['name', 'email'].map((key) => String(fields.get(key) ?? '').trim());
        onDone(name || email ? { ...(name && { name }), ...(email && { email }) } : null);
      }}
    >
      <h2>{words.askTitle}</h2>
      <label>
        <span>{words.name}</span>
        {/* Blanks alone are no name. */}
        <input
          name="name"
          autocomplete="name"
          maxLength={255}
          required={isRequired}
          pattern=".*\S.*"
          dir="auto"
        />
      </label>
      <label>
        <span>{words.email}</span>
        <input
          name="email"
          type="email"
          autocomplete="email"
          maxLength={255}
          required={isRequired}
          dir="ltr"
        />
      </label>
      <div class="buttons">
        <button type="submit" class="primary">
          {words.begin}
        </button>
        {!isRequired && (
          <button type="button" class="plain" onClick={() => onDone(null)}>
            {words.skip}
          </button>
        )}
      </div>
    </form>
  );
}
