import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { Words } from './words.js';

export const WordsContext = createContext<Words | null>(null);

export function useWords(): Words {
  const words = useContext(WordsContext);
  if (!words) throw new Error('no words');
  return words;
}
