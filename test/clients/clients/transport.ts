// Compiles only while the typed client's transport is what the AI SDK takes.
import type { ChatTransport, UIMessage } from 'ai7';
import { assistlyTransport } from 'assistly-client/ai';

export const transport: ChatTransport<UIMessage> = assistlyTransport({
  baseUrl: 'https://chat.example.com',
  sessionId: 'a session',
  token: 'its token',
  protocol: 7,
});
