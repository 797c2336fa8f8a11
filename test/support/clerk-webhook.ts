import { createHmac, randomUUID } from 'node:crypto';

/** An event as Clerk sends it, with its signature. */
export interface SignedEvent {
  headers: Record<string, string>;
  body: string;
}

/** @param key what CLERK_WEBHOOK_SECRET holds behind `whsec_`, in base64 there */
export function signEvent(
  event: unknown,
  {
    key,
    id = `msg_${randomUUID()}`,
    ageSeconds = 0,
  }: { key: Buffer; id?: string | undefined; ageSeconds?: number },
): SignedEvent {
  const body = typeof event === 'string' ? event : JSON.stringify(event);
  const timestamp = String(Math.floor(Date.now() / 1000) - ageSeconds);
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return {
    headers: {
      'content-type': 'application/json',
      'svix-id': id,
      'svix-timestamp': timestamp,
      'svix-signature': `v1,${signature}`,
    },
    body,
  };
}

export const userDeleted = (id: string) => ({
  type: 'user.deleted',
  object: 'event',
  data: { id, object: 'user', deleted: true },
});
