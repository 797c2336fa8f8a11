/** What a person sees at one moment. */
export interface Screen {
  /** Whether an answer is being made, as far as the client knows. */
  status: 'ready' | 'busy' | 'error';
  /** What it says of an error. */
  error: string | null;
  messages: { role: 'user' | 'assistant'; text: string }[];
}

/** Where a client speaks to, and as whom. */
export interface Address {
  /** Of the whole product. */
  api: string;
  chatbotId: string;
  /** The one to speak in; null for those that open their own. */
  session: { id: string; token: string } | null;
  /** A token by which the chatbot's owner says who writes, for those that pass one on. */
  identity: string;
}

/** What a person can do beside sending: each client has those that its documentation shows. */
export type Press = 'stop' | 'resume' | 'regenerate';

/** A client that runs, in Node.js or in a browser. */
export interface OpenClient {
  /** All that it has shown, in order. */
  readonly screens: readonly Screen[];
  readonly screen: Screen;
  send(text: string): Promise<void>;
  press(what: Press): Promise<void>;
  /** Everything that it holds is lost, and it begins as it began at first. */
  reload(): Promise<void>;
  /** @param name of the file */
  photograph(name: string): Promise<void>;
  close(): Promise<void>;
}

/** A place where clients are opened. */
export interface Host {
  /** Whether its clients open their session themselves, with the first message. */
  opensSession?: boolean;
  open(address: Address): Promise<OpenClient>;
  close(): Promise<void>;
}

export const BLANK: Screen = { status: 'busy', error: null, messages: [] };
