import { setTimeout as sleep } from 'node:timers/promises';
import MiniSearch from 'minisearch';
import { type ChatTurn, FinishReason, LlmClient, type LlmChunk, type LlmRequest } from './llm-client.js';
import { tracedChat } from './traced-chat.js';
import { isFunctionWord, stemOf, wordsIn } from './words.js';

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
  const words = new Set(wordsIn(question).map(toTerm));
  words.delete(null);
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

/** The form in which a word is looked up; null for one that says nothing about what a question is about. */
const toTerm = (word: string): string | null => (isFunctionWord(word) ? null : stemOf(word));
