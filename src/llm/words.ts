/** Words that say nothing about what a question is about, in the languages that chatbots are most asked in. */
const FUNCTION_WORDS: ReadonlySet<string> = new Set(
  `a about all also am an and any anything are as at be been but by can could did do does doing else ever for
  from get give got had has have he help her here hers him his how i if in into is it its just know let like
  may me might mine more most much must my need no not of off on only or other our ours out over own please
  say shall she should so some something such tell than thank thanks that the their them then there these
  they thing this those to too up us very want was we were what when where which while who whom whose why
  will with would you your yours yourself
  aber als am an auch auf aus bei bin bist da das dass dein dem den der des die dir du ein eine einen einer
  er es euch euer für haben hat ich ihr im ist ja kann man mein mich mir mit nach nein nicht oder sein sich
  sie sind um und uns von vor war was wer wie wir wird wo zu zum zur
  au aux avec ce ces dans de des du elle est et il ils je la le les leur lui mais mes moi mon ne nos notre
  nous on ou où par pas pour qu que quel quelle quels quelles qui sa se ses son sont sur tu un une vos votre vous
  al como con cuál cuáles cuando de del donde dónde el ella ellos en es esta este hay la las lo los más me mi
  no o para pero por que qué se si sí son su sus te tiene tu un una unos y ya yo
  che chi ci come con cosa da dei del della di dove e gli ha ho i il in io le lo ma mi nel non per più quale
  quando sei si sono ti tra un una`.split(/\s+/),
);

/** Longer than any word that people look for: what is cut is a number, a key, or meant to cost time. */
const MAX_STEM_CHARS = 40;

/** A word of a language that puts spaces between words; or a run of letters of one that does not. */
const RUNS = /[\p{L}\p{N}\p{M}]+(?:['’]\p{L}+)*/gu;
/** Letters of languages without spaces between words, or that write particles to the word (Korean). */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const UNSPACED_RUNS = new RegExp(`${UNSPACED.source}[${UNSPACED.source.slice(1, -1)}\\p{M}ー]*`, 'gu');

/**
 * The words of a text. Where a language has no spaces between them, every two neighbouring letters count as one: the
 * dictionaries of `Intl.Segmenter` know better, and take seconds for a text that is no language.
 */
export function wordsIn(text: string): string[] {
  const words: string[] = [];
  for (const [run] of text.matchAll(RUNS)) {
    if (UNSPACED.test(run)) words.push(...wordsOfMixed(run));
    else words.push(run);
  }
  return words;
}

function wordsOfMixed(run: string): string[] {
  const pairs: string[] = [];
  const spaced = run.replaceAll(UNSPACED_RUNS, (unspaced) => {
    const letters = Array.from(unspaced);
    if (letters.length === 1) pairs.push(unspaced);
    for (let at = 0; at + 1 < letters.length; at++) pairs.push(letters[at]! + letters[at + 1]!);
    return ' ';
  });
  return [...spaced.split(' ').filter((word) => word !== ''), ...pairs];
}

const plain = (word: string): string => word.toLowerCase().replace(/['’]\p{L}*$/u, '');

/** Whether a word only holds a sentence together. */
export const isFunctionWord = (word: string): boolean => {
  const term = plain(word);
  return term === '' || FUNCTION_WORDS.has(term);
};

/** The form in which a word is looked up: without case, accents and English endings. */
export function stemOf(word: string): string {
  const term = plain(word).normalize('NFD').replace(/\p{M}/gu, '').normalize('NFC').slice(0, MAX_STEM_CHARS);
  return term.length > 4 ? term.replace(/(?<=.{3})(ing|ies|ed|es|s|y|e)$/, '') : term;
}
