import type { ChatMessage, ChatSnapshot } from 'assistly-client';
import type { ComponentChildren, VNode } from 'preact';
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { Answer, CopyButton } from './answer.js';
import { useWords } from './context.js';
import { Avatar } from './header.js';
import { Icon } from './icons.js';
import { plainText, toBlocks } from './markdown.js';
import { Sentences } from './sentences.js';
import type { Words } from './words.js';

const PATIENCE_MS = 6_000;
/** How near to the end still counts as being there, in pixels. */
const AT_END = 48;

const isEndSeen = ({ scrollHeight, scrollTop, clientHeight }: HTMLElement): boolean =>
  scrollHeight - scrollTop - clientHeight < AT_END;

interface MessagesProps {
  chat: ChatSnapshot;
  greeting: string | null;
  title: string;
  avatarUrl: string | null;
  language: string;
  children?: ComponentChildren;
  onResend: (key: string) => void;
  onRetry: () => void;
  onRegenerate: () => void;
  onEarlier: () => Promise<void>;
}

const isOver = (status: string): boolean =>
  status === 'completed' || status === 'failed' || status === 'cancelled';

/** Why a message was not sent, as far as a guest can do something about it. */
function reasonOf({ problem }: ChatMessage, words: Words): string {
  switch (problem?.code) {
    case 'rate_limited':
    case 'reply_full':
      return `${words.notSent} ${words.busy}`;
    case 'session_full':
      return `${words.notSent} ${words.full}`;
    case 'chatbot_disabled':
      return `${words.notSent} ${words.disabled}`;
    default:
      return words.notSent;
  }
}

export function Messages(props: MessagesProps): VNode {
  const { chat, greeting, title, avatarUrl, language, children } = props;
  const words = useWords();
  const { messages, reply } = chat;
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  /** Where the list stood when it was last looked at. */
  const lastTop = useRef(0);
  const [hasNew, setHasNew] = useState(false);

  const isWriting = reply !== null && !isOver(reply.status);
  // While another answer is being shown, the one before it is not: it comes back where the other does not get done.
  const shown =
    isWriting && reply.retryOf !== null && reply.text !== ''
      ? messages.filter(({ sender, replyId }) => sender === 'user' || replyId !== reply.retryOf)
      : messages;
  const last = shown.at(-1);
  const hasText =
    reply !== null && shown.some(({ sender, replyId }) => sender !== 'user' && replyId === reply.id);
  const isStanding = reply !== null && isOver(reply.status) && !shown.some(({ state }) => state !== 'sent');

  const toEnd = (): void => {
    scroller.current?.scrollTo({ top: scroller.current.scrollHeight });
    isAtEnd.current = true;
    setHasNew(false);
  };
  const follow = (): void => {
    const list = scroller.current!;
    // Of who has scrolled away an event tells only with the next frame.
    if (list.scrollTop < lastTop.current) isAtEnd.current = isEndSeen(list);
    if (isAtEnd.current) list.scrollTop = list.scrollHeight;
    lastTop.current = list.scrollTop;
  };
  const ownLast = last?.sender === 'user' && last.state === 'sending' ? last.key : null;
  useLayoutEffect(() => {
    if (ownLast !== null) toEnd();
  }, [ownLast]);
  useLayoutEffect(() => {
    follow();
    if (!isAtEnd.current) setHasNew(true);
  }, [last?.key, reply?.text]);
  // Ended together with what it observes: other effects end a while later.
  useLayoutEffect(() => {
    const observer = new ResizeObserver(follow);
    observer.observe(content.current!);
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);

  const loadEarlier = async (): Promise<void> => {
    const { scrollHeight, scrollTop } = scroller.current!;
    await props.onEarlier();
    requestAnimationFrame(() => {
      const now = scroller.current!;
      now.scrollTop = scrollTop + now.scrollHeight - scrollHeight;
    });
  };

  const days = useMemo(() => new Days(language), [language]);
  const rows = shown.map((message, index) => {
    const day = days.between(shown[index - 1], message);
    const isLastAnswer = message === last && message.sender !== 'user' && message.replyId === reply?.id;
    return (
      <Turn
        key={message.key}
        message={message}
        day={day}
        time={days.timeOf(message)}
        title={title}
        avatarUrl={avatarUrl}
        onResend={props.onResend}
        actions={
          isLastAnswer && isStanding ? (
            reply.status === 'completed' && reply.finishReason !== 'budget' ? (
              <Action icon="again" onClick={props.onRegenerate}>
                {words.anotherAnswer}
              </Action>
            ) : (
              <Action icon="again" onClick={props.onRetry}>
                {words.tryAgain}
              </Action>
            )
          ) : null
        }
        note={isLastAnswer && reply.status === 'cancelled' ? words.stopped : null}
        isLast={message === last}
      />
    );
  });

  return (
    <div class="list">
      <div
        ref={scroller}
        class="scroller"
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={words.conversation}
        aria-busy={chat.status === 'opening' && shown.length === 0}
        onScroll={({ currentTarget: list }) => {
          isAtEnd.current = isEndSeen(list);
          lastTop.current = list.scrollTop;
          if (isAtEnd.current) setHasNew(false);
        }}
      >
        <div ref={content} class="column">
          {chat.hasEarlier && (
            <button type="button" class="plain earlier" onClick={() => void loadEarlier()}>
              {words.earlierMessages}
            </button>
          )}
          {greeting !== null && !chat.hasEarlier && !shown.some(({ sender }) => sender !== 'user') && (
            <div class="turn theirs" key="greeting">
              <Avatar url={avatarUrl} title={title} />
              <div class="body">
                <Answer text={greeting} />
              </div>
            </div>
          )}
          {rows}
          {isWriting && !hasText && (
            <div class="turn theirs" key={reply.id}>
              <Avatar url={avatarUrl} title={title} />
              <div class="body">
                {reply.text !== '' && <Answer text={reply.text} />}
                <Waiting isDelayed={reply.delay !== null} hasText={reply.text !== ''} />
              </div>
            </div>
          )}
          {isStanding && !hasText && reply.status !== 'completed' && (
            <div class="turn theirs" key={reply.id}>
              <Avatar url={avatarUrl} title={title} />
              <div class="body">
                {reply.text !== '' && <Answer text={reply.text} />}
                <p class={reply.status === 'failed' ? 'note problem' : 'note'}>
                  {reply.status === 'failed' ? words.failed : words.stopped}
                </p>
                <div class="actions is-last">
                  <Action icon="again" onClick={props.onRetry}>
                    {words.tryAgain}
                  </Action>
                </div>
              </div>
            </div>
          )}
          {children}
        </div>
      </div>
      {hasNew && (
        <button type="button" class="to-end" onClick={toEnd}>
          {words.newText}
          <Icon name="down" />
        </button>
      )}
      <Announcer chat={chat} language={language} />
    </div>
  );
}

function Action({
  icon,
  onClick,
  children,
}: {
  icon: 'again';
  onClick: () => void;
  children: ComponentChildren;
}): VNode {
  return (
    <button type="button" class="action" onClick={onClick}>
      <Icon name={icon} />
      <span>{children}</span>
    </button>
  );
}

interface TurnProps {
  message: ChatMessage;
  day: string | null;
  time: string | null;
  title: string;
  avatarUrl: string | null;
  actions: VNode | null;
  note: string | null;
  isLast: boolean;
  onResend: (key: string) => void;
}

function Turn({ message, day, time, title, avatarUrl, actions, note, isLast, onResend }: TurnProps): VNode {
  const words = useWords();
  const { key, sender, content, state } = message;
  const separator = day !== null && <p class="day">{day}</p>;
  if (sender === 'user') {
    return (
      <>
        {separator}
        <div class={`turn mine is-${state}`}>
          <span class="hidden">{words.you}: </span>
          <div class="bubble" dir="auto" title={time ?? undefined}>
            {content}
          </div>
          {state === 'sending' && <p class="note late">{words.sending}</p>}
          {state === 'not_sent' && (
            <p class="note problem" role="alert">
              {reasonOf(message, words)}{' '}
              <button type="button" class="plain" onClick={() => onResend(key)}>
                {words.tryAgain}
              </button>
            </p>
          )}
        </div>
      </>
    );
  }
  return (
    <>
      {separator}
      <div class="turn theirs">
        <Avatar url={avatarUrl} title={title} />
        <div class="body">
          <span class="hidden">{title}: </span>
          <Answer text={content} />
          {note !== null && <p class="note">{note}</p>}
          {message.replyId !== null && (
            <div class={isLast ? 'actions is-last' : 'actions'}>
              <CopyButton text={content} />
              {actions}
              {time !== null && <time dateTime={message.createdAt ?? undefined}>{time}</time>}
            </div>
          )}
        </div>
      </div>
    </>
  );
}

/** The wait for a word: quiet dots, and after a while a sentence. */
function Waiting({ isDelayed, hasText }: { isDelayed: boolean; hasText: boolean }): VNode | null {
  const words = useWords();
  const [isLong, setLong] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLong(true), PATIENCE_MS);
    return () => clearTimeout(timer);
  }, []);
  if (hasText && !isDelayed) return null;
  const sentence = isDelayed ? words.tryingAgain : isLong ? words.stillWorking : null;
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {sentence !== null && <span>{sentence}</span>}
    </p>
  );
}

/** Days and times in the reader's language. */
class Days {
  private readonly today: Intl.RelativeTimeFormat;
  private readonly date: Intl.DateTimeFormat;
  private readonly time: Intl.DateTimeFormat;

  constructor(language: string) {
    this.today = new Intl.RelativeTimeFormat(language, { numeric: 'auto' });
    this.date = new Intl.DateTimeFormat(language, { dateStyle: 'full' });
    this.time = new Intl.DateTimeFormat(language, { timeStyle: 'short' });
  }

  timeOf({ createdAt }: ChatMessage): string | null {
    return createdAt === null ? null : this.time.format(new Date(createdAt));
  }

  /** What stands before a message; null where the day is the one before's, or today's at the beginning. */
  between(before: ChatMessage | undefined, { createdAt }: ChatMessage): string | null {
    if (createdAt === null) return null;
    const ago = daysAgo(createdAt);
    const isNew = before?.createdAt ? daysAgo(before.createdAt) !== ago : ago > 0 && before === undefined;
    if (!isNew) return null;
    if (ago > 1) return this.date.format(new Date(createdAt));
    const word = this.today.format(-ago, 'day');
    return word.charAt(0).toLocaleUpperCase() + word.slice(1);
  }
}

function daysAgo(time: string): number {
  const midnight = (date: Date): number =>
    new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  return Math.max(0, Math.round((midnight(new Date()) - midnight(new Date(time))) / 86_400_000));
}

/** What is read aloud: whole sentences of an answer as it grows, and each change of its state once. */
function Announcer({ chat, language }: { chat: ChatSnapshot; language: string }): VNode {
  const words = useWords();
  const [lines, setLines] = useState<{ id: number; text: string }[]>([]);
  const heard = useRef({ reply: '', status: '', isDelayed: false, count: 0, isAnyHeard: false });
  const sentences = useRef(new Sentences(language));
  const { reply, messages } = chat;
  useEffect(() => {
    const known = heard.current;
    const say = (text: string): void => {
      if (text === '') return;
      known.count += 1;
      const line = { id: known.count, text };
      setLines((before) => [...before, line].slice(-12));
    };
    if (reply === null) return;
    const isEnd = isOver(reply.status);
    if (reply.id !== known.reply) {
      known.reply = reply.id;
      known.status = reply.status;
      known.isDelayed = false;
      sentences.current = new Sentences(language);
      if (isEnd) return; // of before this page
      say(words.writing);
    }
    const isDelayed = reply.delay !== null;
    if (isDelayed && !known.isDelayed) say(words.tryingAgain);
    known.isDelayed = isDelayed;
    if (isEnd && known.status === 'ended') return;
    if (isEnd && isOver(known.status)) return;
    const message = messages.find(({ sender, replyId }) => sender !== 'user' && replyId === reply.id);
    if (isEnd && reply.status === 'completed' && !message) return; // on its way
    say(sentences.current.next(plainText(toBlocks(message?.content ?? reply.text)), isEnd));
    if (reply.status === 'failed') say(words.failed);
    if (reply.status === 'cancelled') say(words.stopped);
    known.status = isEnd ? 'ended' : reply.status;
  }, [reply, messages]);
  return (
    <div class="hidden" aria-live="polite">
      {lines.map(({ id, text }) => (
        <p key={id}>{text}</p>
      ))}
    </div>
  );
}
