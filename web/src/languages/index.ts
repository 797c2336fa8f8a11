import type { Words } from '../words.js';

type File = Promise<{ words: Words }>;

/** The languages that the page speaks, each a file of its own that is loaded where it is wanted. */
export const LANGUAGES: Record<string, () => File> = {
  en: () => import('./en.js'),
  de: () => import('./de.js'),
  fr: () => import('./fr.js'),
  es: () => import('./es.js'),
  ar: () => import('./ar.js'),
};
