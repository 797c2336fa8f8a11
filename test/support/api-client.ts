import { checkedFetch } from './contract.js';
import { type Recorded, SseRecorder } from './sse-recorder.js';

export interface Answer<T> {
  status: number;
  headers: Headers;
  body: T;
}

/** Speaks to an api as its clients do; every answer is held against openapi.json. Bodies are `any`-shaped on purpose: the assertions say what is expected. */
export class ApiClient {
  constructor(
    readonly baseUrl: string,
    readonly token?: string,
  ) {}

  as(token: string): ApiClient {
    return new ApiClient(this.baseUrl, token);
  }

  at(baseUrl: string): ApiClient {
    return new ApiClient(baseUrl, this.token);
  }

  async request<T = Json>(method: string, path: string, init: RequestInit = {}): Promise<Answer<T>> {
    const headers = new Headers(init.headers);
    if (this.token !== undefined && !headers.has('authorization'))
      headers.set('authorization', `Bearer ${this.token}`);
    const send = (): Promise<Response> => checkedFetch(this.baseUrl + path, { ...init, method, headers });
    // As browsers do: a kept connection that the other side has closed meanwhile is replaced, where that is safe.
    const response = await send().catch((error: unknown) => {
      if (method === 'GET' && isClosedConnection(error)) return send();
      throw error;
    });
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: (text === '' ? null : parse(text)) as T,
    };
  }

  get<T = Json>(path: string): Promise<Answer<T>> {
    return this.request<T>('GET', path);
  }

  /** Without a body neither body nor Content-Type is sent. */
  post<T = Json>(path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer<T>> {
    return this.request<T>('POST', path, withBody(body, headers));
  }

  patch<T = Json>(path: string, body: unknown): Promise<Answer<T>> {
    return this.request<T>('PATCH', path, withBody(body, {}));
  }

  delete<T = Json>(path: string): Promise<Answer<T>> {
    return this.request<T>('DELETE', path);
  }

  async createChatbot(body: object = { name: 'Bakery' }): Promise<Json> {
    return expectStatus(201, await this.post('/v1/chatbots', body));
  }

  /** Opens a session, and gives a client that speaks as its guest. */
  async openSession(
    chatbotId: string,
    body?: object,
  ): Promise<{ session: Json; token: string; messages: Json[]; guest: ApiClient; cursor: string }> {
    const answer = await this.post(`/v1/chatbots/${chatbotId}/sessions`, body);
    const { session, token, messages } = expectStatus(201, answer);
    return {
      session,
      token,
      messages,
      guest: this.as(token),
      cursor: answer.headers.get('x-event-cursor') ?? '',
    };
  }

  async postMessage(
    sessionId: string,
    content: string,
  ): Promise<{ message: Json; reply: Json; cursor: string }> {
    const answer = await this.post(`/v1/sessions/${sessionId}/messages`, { content });
    return { ...expectStatus(202, answer), cursor: answer.headers.get('x-event-cursor') ?? '' };
  }

  /** Polls until the reply is final. */
  async finalReply(replyId: string, timeoutMs = 60_000): Promise<Json> {
    const end = Date.now() + timeoutMs;
    for (;;) {
      const reply = expectStatus(200, await this.get(`/v1/replies/${replyId}?wait=30`));
      if (['completed', 'failed', 'cancelled'].includes(reply.status)) return reply;
      if (Date.now() > end) throw new Error(`the reply is still ${reply.status}`);
    }
  }

  async messages(sessionId: string): Promise<Json[]> {
    return expectStatus(200, await this.get(`/v1/sessions/${sessionId}/messages?limit=100`)).data;
  }

  /** Follows a session's events. */
  follow(
    sessionId: string,
    options: { after?: string; lastEventId?: string; eventToken?: string } = {},
  ): SseRecorder {
    const query = new URLSearchParams();
    if (options.after !== undefined) query.set('after', options.after);
    if (options.eventToken !== undefined) query.set('token', options.eventToken);
    return new SseRecorder(`${this.baseUrl}/v1/sessions/${sessionId}/events?${query.toString()}`, {
      ...(options.eventToken === undefined && { authorization: `Bearer ${this.token ?? ''}` }),
      ...(options.lastEventId !== undefined && { 'last-event-id': options.lastEventId }),
    });
  }
}

/** An answer's body, as JSON has it. */
export type Json = any;
export type { Recorded };

function isClosedConnection(error: unknown): boolean {
  const cause = typeof error === 'object' && error !== null && 'cause' in error ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'code' in cause && cause.code === 'UND_ERR_SOCKET';
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function withBody(body: unknown, headers: Record<string, string>): RequestInit {
  return body === undefined
    ? { headers }
    : { headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) };
}

function expectStatus<T>(status: number, answer: Answer<T>): T {
  if (answer.status !== status) {
    throw new Error(`expected ${status}, got ${answer.status}: ${JSON.stringify(answer.body)}`);
  }
  return answer.body;
}
