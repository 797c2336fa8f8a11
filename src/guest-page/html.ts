const ESCAPES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** A text as HTML shows it, between tags and in quoted attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (letter) => ESCAPES[letter]!);

/**
 * Fills the `{{…}}` of a template that the build has made. What is filled in is not looked at again.
 *
 * @param texts any text: it is escaped
 * @param markup what is markup already
 */
export function fillTemplate(
  template: string,
  texts: Record<string, string>,
  markup: Record<string, string> = {},
): string {
  return template.replace(
    /\{\{(\w+)\}\}/g,
    (_, name: string) => markup[name] ?? escapeHtml(texts[name] ?? ''),
  );
}
