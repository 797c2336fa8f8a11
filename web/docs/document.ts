/** What the page reads of `/openapi.json`. */
export interface ApiDocument {
  info: { title: string; version: string; description?: string };
  tags: { name: string; description?: string }[];
  servers?: { url: string }[];
  paths: Record<string, Record<string, { operationId: string; tags: string[]; summary: string }>>;
}

export interface Operation {
  id: string;
  tag: string;
  method: string;
  path: string;
  summary: string;
  /** Where Swagger UI has it. */
  href: string;
}

export const tagHref = (tag: string): string => `#/${encodeURIComponent(tag)}`;

export function operationsOf({ paths }: ApiDocument): Operation[] {
  return Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, { operationId: id, tags, summary }]) => {
      const tag = tags[0] ?? 'default';
      return { id, tag, method: method.toUpperCase(), path, summary, href: `${tagHref(tag)}/${id}` };
    }),
  );
}
