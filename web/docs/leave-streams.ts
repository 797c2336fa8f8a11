/** A request that Swagger UI is about to send. */
export interface PageRequest {
  url: string;
  method: string;
  userFetch?: typeof fetch;
}

/**
 * Swagger UI shows an answer when it has ended, which a stream of events does not for minutes. So the page leaves it when a
 * reply has ended, or after ten seconds, and shows what came until then.
 */
export function leaveStreamsSoon(request: PageRequest): PageRequest {
  if (request.method !== 'GET' || !/\/events(\?|$)/.test(request.url)) return request;
  request.userFetch = async (url, init) => {
    const leaving = new AbortController();
    const timer = setTimeout(() => leaving.abort(), 10_000);
    const response = await fetch(url, { ...init, signal: leaving.signal });
    if (!response.ok || !response.body) return response;
    const decoder = new TextDecoder();
    let text = '';
    try {
      const reader = response.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += decoder.decode(part.value, { stream: true });
        if (/^event: (reply\.(completed|cancelled|failed)|session\.deleted)\n.*\n\n/m.test(text)) break;
      }
    } catch {
      // The ten seconds are over.
    }
    clearTimeout(timer);
    leaving.abort();
    return new Response(text, { status: response.status, headers: response.headers });
  };
  return request;
}
