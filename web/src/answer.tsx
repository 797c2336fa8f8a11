import type { VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { useWords } from './context.js';
import { Icon } from './icons.js';
import { GrowingBlocks, toElement, type Piece } from './markdown.js';

const COPIED_MS = 2_000;

/** A button that copies a text, and says so. */
export function CopyButton({ text, class: name = 'action' }: { text: string; class?: string }): VNode {
  const words = useWords();
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return undefined;
    const timer = setTimeout(() => setCopied(false), COPIED_MS);
    return () => clearTimeout(timer);
  }, [isCopied]);
  const copy = (): void =>
    void navigator.clipboard?.writeText(text).then(
      () => setCopied(true),
      () => undefined, // not allowed here
    );
  return (
    <button type="button" class={name} onClick={copy}>
      <Icon name={isCopied ? 'done' : 'copy'} />
      <span aria-live="polite">{isCopied ? words.copied : words.copy}</span>
    </button>
  );
}

function Code({ code, language }: { code: string; language: string }): VNode {
  return (
    <div class="code" dir="ltr">
      <div class="code-bar">
        <span>{language}</span>
        <CopyButton text={code} class="action code-copy" />
      </div>
      {/* Who cannot scroll it with a pointer can by keyboard. */}
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </div>
  );
}

/** An answer's text. What stands already is not made again as the text grows. */
export function Answer({ text }: { text: string }): VNode {
  const blocks = useRef(new GrowingBlocks());
  const made = useRef(new WeakMap<object, Piece>());
  return (
    <div class="answer" dir="auto">
      {blocks.current.read(text).map((token) => {
        const known = made.current.get(token) ?? toElement(token, Code);
        made.current.set(token, known);
        return known;
      })}
    </div>
  );
}
