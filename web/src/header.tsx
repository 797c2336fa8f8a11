import type { VNode } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { useWords } from './context.js';
import { Icon } from './icons.js';
import type { EarlierSession } from './store.js';

/** The chatbot's picture, or its first letter. */
export function Avatar({ url, title }: { url: string | null; title: string }): VNode {
  const [isBroken, setBroken] = useState(false);
  return (
    <span class="avatar" aria-hidden="true">
      {url !== null && !isBroken ? (
        <img src={url} alt="" referrerpolicy="no-referrer" onError={() => setBroken(true)} />
      ) : (
        [...title][0]?.toLocaleUpperCase()
      )}
    </span>
  );
}

interface HeaderProps {
  title: string;
  avatarUrl: string | null;
  language: string;
  isVerified: boolean;
  earlier: readonly EarlierSession[];
  mayBegin: boolean;
  onBegin: () => void;
  onEarlier: () => void;
  onResume: (id: string) => void;
  onClose: (() => void) | null;
}

export function Header(props: HeaderProps): VNode {
  const { title, avatarUrl, language, isVerified, earlier, mayBegin, onBegin, onEarlier, onResume, onClose } =
    props;
  const words = useWords();
  const [isOpen, setOpen] = useState(false);
  const menu = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const time = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'short' });

  const shut = (): void => {
    setOpen(false);
    button.current?.focus();
  };
  useEffect(() => {
    if (!isOpen) return undefined;
    menu.current?.querySelector('button')?.focus();
    const leave = (event: Event): void => {
      if (!menu.current?.parentElement?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener('pointerdown', leave);
    document.addEventListener('focusin', leave);
    return () => {
      document.removeEventListener('pointerdown', leave);
      document.removeEventListener('focusin', leave);
    };
  }, [isOpen]);

  return (
    <header class="top">
      <Avatar url={avatarUrl} title={title} />
      <h1 dir="auto">{title}</h1>
      {mayBegin && (
        <div
          class="menu"
          onKeyDown={(event) => {
            if (event.key !== 'Escape' || !isOpen) return;
            event.stopPropagation();
            shut();
          }}
        >
          <button
            ref={button}
            type="button"
            class="round quiet"
            aria-label={words.menu}
            title={words.menu}
            aria-expanded={isOpen}
            aria-controls="menu"
            onClick={() => {
              setOpen(!isOpen);
              if (!isOpen && isVerified) onEarlier();
            }}
          >
            <Icon name="menu" />
          </button>
          <div ref={menu} id="menu" class="menu-list" hidden={!isOpen}>
            <button
              type="button"
              onClick={() => {
                setOpen(false);
                onBegin();
              }}
            >
              {words.newConversation}
            </button>
            {earlier.length > 0 && <p id="earlier">{words.earlierConversations}</p>}
            {earlier.map(({ id, lastMessageAt, createdAt }) => (
              <button
                key={id}
                type="button"
                aria-describedby="earlier"
                onClick={() => {
                  setOpen(false);
                  onResume(id);
                }}
              >
                {time.format(new Date(lastMessageAt ?? createdAt))}
              </button>
            ))}
          </div>
        </div>
      )}
      {onClose && (
        <button
          type="button"
          class="round quiet"
          aria-label={words.close}
          title={words.close}
          onClick={onClose}
        >
          <Icon name="close" />
        </button>
      )}
    </header>
  );
}
