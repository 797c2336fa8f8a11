/** The page's own words. Each language is a file of `languages/` with all of them; what owners write is not among them. */
export interface Words {
  direction: 'ltr' | 'rtl';
  placeholder: string;
  message: string;
  send: string;
  stop: string;
  conversation: string;
  you: string;
  menu: string;
  newConversation: string;
  earlierConversations: string;
  earlierMessages: string;
  close: string;
  mayBeWrong: string;
  suggestions: string;
  sending: string;
  notSent: string;
  tryAgain: string;
  anotherAnswer: string;
  copy: string;
  copied: string;
  newText: string;
  writing: string;
  stillWorking: string;
  tryingAgain: string;
  stopped: string;
  failed: string;
  offline: string;
  busy: string;
  full: string;
  /** `{count}`: how many characters. */
  tooLong: string;
  ended: string;
  askTitle: string;
  name: string;
  email: string;
  begin: string;
  skip: string;
  disabled: string;
  needsIdentity: string;
  notFound: string;
  notAllowed: string;
  unavailable: string;
  noScript: string;
}
