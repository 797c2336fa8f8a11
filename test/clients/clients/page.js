// What each page in the browser knows of its session, and the words and marks by which the tests find things on it.

/** @type {{ api: string, sessionId: string, token: string }} api: of the whole product */
export const session = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
export const chat = `${session.api}/v1/sessions/${session.sessionId}/chat`;
export const headers = { Authorization: `Bearer ${session.token}` };

/** What the session holds already, as the AI SDK keeps it. */
export const history = async () => (await fetch(chat, { headers })).json();

/** The AI SDK's own stop only closes its connection. */
export const stopOnServer = () => fetch(`${chat}/stop`, { method: 'POST', headers, keepalive: true });
