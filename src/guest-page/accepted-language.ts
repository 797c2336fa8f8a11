/**
 * The language of a page, by the browser's `Accept-Language`: the first of those that it likes best that there is.
 *
 * @param known the first one is taken where none is wanted
 */
export function acceptedLanguage(header: string | undefined, known: readonly string[]): string {
  const wanted = (header ?? '')
    .slice(0, 500)
    .split(',')
    .map((part, place) => {
      const [tag = '', ...parameters] = part.trim().toLowerCase().split(';');
      const quality = parameters
        .map((one) => /^\s*q=([\d.]+)\s*$/.exec(one)?.[1])
        .find((one) => one !== undefined);
      return { language: tag.split('-')[0]!, quality: quality === undefined ? 1 : Number(quality), place };
    })
    .filter(({ quality }) => quality > 0)
    .sort((a, b) => b.quality - a.quality || a.place - b.place);
  return wanted.find(({ language }) => known.includes(language))?.language ?? known[0]!;
}
