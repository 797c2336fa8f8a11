import { setTimeout as sleep } from 'node:timers/promises';
import MiniSearch from 'minisearch';
import { type ChatTurn, FinishReason, LlmClient, type LlmChunk, type LlmRequest } from './llm-client.js';
import { tracedChat } from './traced-chat.js';

const MODEL = 'extractive';

const GREETING_REPLY = 'Hello! What would you like to know?';
const NO_ANSWER =
  'I have no information about that. I can only answer from what this chatbot has been told: its characteristics do not mention it.';

/** Indexing is synchronous work for the whole process: this many characters take a few tens of milliseconds. */
const MAX_INDEXED_CHARS = 100_000;
const MAX_QUESTION_CHARS = 2_000;
/** About a paragraph: enough to answer, short enough to be about one thing. */
const PASSAGE_CHARS = 400;
const MAX_PASSAGES = 3;
/** A passage has to match at least this part of the question's words... */
const MIN_MATCHED_WORDS = 1 / 3;
/** ...and to score at least this part of the best one's score. */
const MIN_RELATIVE_SCORE = 0.5;

const GREETING =
  /^(hi|hello|hey|hiya|howdy|greetings|good (morning|afternoon|evening|day)|hallo|moin|servus|guten (morgen|tag|abend)|salut|bonjour|bonsoir|hola|buenos d[ií]as|buenas (tardes|noches)|ciao|buongiorno|ol[áa]|hej|ahoj|привет|你好|こんにちは)( (there|all|everyone|again))?[\s\p{P}\p{S}]*$/iu;

/** Words that say nothing about what a question is about. */
const STOP_WORDS: ReadonlySet<string> = new Set(
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

const WORDS = new Intl.Segmenter(undefined, { granularity: 'word' });
const SENTENCES = new Intl.Segmenter(undefined, { granularity: 'sentence' });

/**
 * The offline responder, for trying the product without a model: it answers with the passages of the
 * chatbot's characteristics that match the guest's question, word for word, and says so when there are none.
 * It understands nothing; it only searches.
 */
export class ExtractiveClient extends LlmClient {
  /** @param options.pauseMs between two words, so that an answer is seen to stream */
  constructor(private readonly options: { pauseMs: number } = { pauseMs: 15 }) {
    super();
  }

  override modelFor(): string {
    return MODEL;
  }

  override stream(request: LlmRequest): AsyncGenerator<LlmChunk, void, undefined> {
    return tracedChat({ provider: 'extractive', model: MODEL }, this.search(request));
  }

  private async *search(request: LlmRequest): AsyncGenerator<LlmChunk, void, undefined> {
    request.signal.throwIfAborted();
    const answer = answerTo(questionOf(request.turns), request.characteristics);
    for (const [word] of answer.matchAll(/\s*\S+/gu)) {
      yield { type: 'text', text: word };
      await sleep(this.options.pauseMs, undefined, { signal: request.signal }).catch(() => {});
      request.signal.throwIfAborted();
    }
    yield { type: 'finish', reason: FinishReason.Stop, isRefusal: false };
  }
}

/** What the guest wrote since the last answer. */
function questionOf(turns: readonly ChatTurn[]): string {
  const lastOther = turns.findLastIndex((turn) => turn.role !== 'user');
  return turns
    .slice(lastOther + 1)
    .map((turn) => turn.content)
    .join('\n')
    .slice(-MAX_QUESTION_CHARS);
}

function answerTo(question: string, characteristics: readonly string[]): string {
  if (GREETING.test(question.trim())) return GREETING_REPLY;
  const passages = findPassages(question, characteristics);
  return passages.length > 0 ? passages.join('\n\n') : NO_ANSWER;
}

/** The passages that match best, in the order in which the owner wrote them. */
function findPassages(question: string, characteristics: readonly string[]): string[] {
  const words = new Set(
    wordsIn(question)
      .map(toTerm)
      .filter((term) => term !== null),
  );
  if (words.size === 0) return [];
  const passages = [...new Set(splitIntoPassages(characteristics))];
  const index = new MiniSearch({ fields: ['text'], tokenize: wordsIn, processTerm: toTerm });
  index.addAll(passages.map((text, id) => ({ id, text })));
  const matches = index
    .search(question, {
      // Short words have too many neighbours: "cat" is no "car".
      prefix: (term) => term.length >= 4,
      fuzzy: (term) => (term.length >= 5 ? 0.2 : false),
      maxFuzzy: 1,
    })
    .filter((match) => match.queryTerms.length >= words.size * MIN_MATCHED_WORDS);
  const minScore = (matches[0]?.score ?? 0) * MIN_RELATIVE_SCORE;
  return matches
    .filter((match) => match.score >= minScore)
    .slice(0, MAX_PASSAGES)
    .map((match) => Number(match.id))
    .sort((a, b) => a - b)
    .map((id) => passages[id]!);
}

/** Paragraphs; long ones as groups of whole sentences, and a sentence without an end in pieces. */
function splitIntoPassages(characteristics: readonly string[]): string[] {
  const passages: string[] = [];
  let restChars = MAX_INDEXED_CHARS;
  for (const characteristic of characteristics) {
    const text = characteristic.slice(0, restChars).toWellFormed();
    restChars -= text.length;
    for (const paragraph of text.split(/\n\s*\n/)) {
      let passage = '';
      for (const sentence of paragraph.length > PASSAGE_CHARS ? sentencesIn(paragraph) : [paragraph]) {
        if (passage !== '' && passage.length + sentence.length > PASSAGE_CHARS) {
          passages.push(passage);
          passage = '';
        }
        passage += sentence;
      }
      passages.push(passage);
    }
  }
  return passages.map((passage) => passage.trim()).filter((passage) => passage !== '');
}

const sentencesIn = (text: string): string[] =>
  Array.from(SENTENCES.segment(text), ({ segment }) => segment).flatMap(
    (sentence) => sentence.match(/[^]{1,1000}/gu) ?? [],
  );

/** By the rules of Unicode, so that languages without spaces have words too. */
const wordsIn = (text: string): string[] =>
  Array.from(WORDS.segment(text))
    .filter(({ isWordLike }) => isWordLike)
    .map(({ segment }) => segment);

/** The form in which a word is looked up, without case, accents and English endings; null for a stop word. */
function toTerm(word: string): string | null {
  const term = word.toLowerCase().replace(/['’]\p{L}*$/u, '');
  if (term === '' || STOP_WORDS.has(term)) return null;
  const plain = term.normalize('NFD').replace(/\p{M}/gu, '').normalize('NFC');
  return plain.length > 4 ? plain.replace(/(?<=.{3})(ing|ies|ed|es|s|y|e)$/, '') : plain;
}
