import { expect } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerTo } from '../../support/raw-provider.js';
import { waitFor } from '../../support/wait.js';
import type { Client, Way } from '../clients.js';
import { type Fault, textOf } from '../faults.js';
import type { Address, Host, OpenClient, Screen } from './host.js';
import type { Stage } from './stage.js';

/**
 * What the table says of one client and one fault, found by playing it once for each way that the client has. `nothing`
 * where the right answer came by itself, each time; otherwise the ways that led to it.
 */
export type Outcome = { took: 'nothing' } | { took: Way[] };

/** How one conversation came to its right end; null: this way was not offered. */
type Played = 'nothing' | Way | null;

/** For so long a client shows the same before it counts as having nothing under way: time to connect again by itself. */
const SETTLED_MS = 4_000;
/** A worker's lease, the reconciler that ends it, and a busy machine. */
const PATIENCE = { timeoutMs: 60_000 };

/** Of what the provider held back, this much has come: nine words (`held` of the raw provider). */
const firstWords = (question: string): string => answerTo(question).match(/(\s*\S+){9}/u)?.[0] ?? '';

/** Plays one fault with all clients at once, each of its ways in a conversation of its own. */
export async function playRound(
  stage: Stage,
  fault: Fault,
  clients: readonly (Client & { opened: Host })[],
): Promise<Map<string, PromiseSettledResult<Outcome>>> {
  const plays = clients.flatMap((client) => client.ways.map((way) => ({ client, way })));
  const meeting = new Meeting(plays.length);
  const played = await Promise.allSettled(
    plays.map(({ client, way }) => play(stage, fault, client, way, meeting).finally(() => meeting.leave())),
  );
  const outcomes = await Promise.allSettled(
    clients.map(async ({ name }) => {
      const ends = played.filter((_, index) => plays[index]!.client.name === name);
      const failed = ends.find((end) => end.status === 'rejected');
      if (failed) throw failed.reason;
      return summarize(ends.map((end) => (end as PromiseFulfilledResult<Played>).value));
    }),
  );
  return new Map(clients.map(({ name }, index) => [name, outcomes[index]!]));
}

function summarize(played: readonly Played[]): Outcome {
  if (played.every((each) => each === 'nothing')) return { took: 'nothing' };
  const ways = played.filter((each) => each !== null);
  if (ways.length === 0) throw new Error('nothing that is offered led to the right answer');
  if (ways.includes('nothing')) throw new Error(`once by itself and once not: ${played.join(', ')}`);
  return { took: ways as Way[] };
}

async function play(
  stage: Stage,
  fault: Fault,
  { name, opened: host }: Client & { opened: Host },
  way: Way,
  meeting: Meeting,
): Promise<Played> {
  const chatbot = await stage.createChatbot('held:2');
  const session = host.opensSession ? null : await stage.openSession(chatbot.chatbotId);
  const address: Address = { api: stage.gate.url, ...chatbot, session };
  const question = `Question ${chatbot.chatbotId}?`;
  const begun = firstWords(question);
  const right = fault.stops ? begun : answerTo(question);
  const devices: OpenClient[] = [];
  const isRight = (): boolean =>
    devices.every(({ screen }) => screen.status !== 'busy' && textOf(screen) === right);
  const calls = () => stage.provider.calls.filter((call) => call.question === question);
  /** `SHOTS=<directory>`: what the pages look like, for people. */
  const photograph = async (moment: string): Promise<void> => {
    const directory = process.env['SHOTS'];
    const file = `${[name, fault.name, way, moment].join(' ').replace(/[^\w]+/g, '-')}.png`.replace(/^-/, '');
    if (directory) await devices[0]!.photograph(join(directory, file));
  };
  const leave = await meeting.enter();
  try {
    const device = await open(host, address);
    devices.push(device);
    await waitFor('the client to be ready', () => device.screen.status === 'ready');
    fault.prepare?.({ stage, question });
    await device.send(question);
    const call = await waitFor('the call of the model', () => calls()[0], PATIENCE);
    await waitFor('the first words', () => textOf(device.screen) === begun);
    leave();
    await photograph('streaming');
    const sessionId = session?.id ?? (await stage.sessionsOf(chatbot.chatbotId))[0]!;
    await fault.strike({
      stage,
      question,
      sessionId,
      devices,
      call,
      openAnother: async () => {
        const another = await open(host, address);
        await waitFor('the first words on another device', () => textOf(another.screen) === begun);
        return another;
      },
      together: (work) => meeting.together(work),
    });

    await photograph('struck');
    // The model goes on once somebody follows again; so a way that is taken meets an answer that is being made.
    const goOn = async (isOver: () => boolean | Promise<boolean>): Promise<void> => {
      const look = (): boolean | Promise<boolean> => {
        if (stage.gate.streams(sessionId) > 0) for (const each of calls()) each.release();
        return isOver();
      };
      await waitFor('the right answer', look, PATIENCE);
    };
    await goOn(async () => isRight() || (await haveSettled(devices)));
    let took: Played = 'nothing';
    if (!isRight()) {
      if (way === 'regenerate' && device.screen.status !== 'error') return null;
      took = way;
      if (way === 'reload') await device.reload();
      else await device.press(way);
      await goOn(isRight);
    }
    await photograph('end');
    for (const each of devices) expectRight(each, question, right);
    expect(await stage.sessionsOf(chatbot.chatbotId)).toEqual([sessionId]);
    const stored = await stage.owner().messages(sessionId);
    expect(stored.map(({ sender, content }) => [sender, content])).toEqual([
      ['user', question],
      ['ai', right],
    ]);
    expect(`called ${calls().length} times`).toBe(`called ${fault.calls ?? 1} times`);
    return took;
  } catch (error) {
    const shown = JSON.stringify(devices.map(({ screen }) => screen));
    throw new Error(
      `${way}: ${String(error)}\nshown: ${shown}\nthe model was called ${calls().length} times`,
      {
        cause: error,
      },
    );
  } finally {
    leave();
    for (const each of calls()) each.release();
    await Promise.all(devices.map((device) => device.close()));
  }
}

async function open(host: Host, address: Address): Promise<OpenClient> {
  const client = await host.open(address);
  await waitFor('the client to begin', () => client.screens.length > 0);
  return client;
}

async function haveSettled(devices: readonly OpenClient[]): Promise<boolean> {
  const shown = devices.map(({ screens }) => screens.length);
  if (devices.some(({ screen }) => screen.status === 'busy')) return false;
  await sleep(SETTLED_MS);
  return devices.every(({ screens }, index) => screens.length === shown[index]);
}

/** Question and answer stand there once, and at no moment stood there more than that, or another text. */
function expectRight({ screen, screens }: OpenClient, question: string, right: string): void {
  expect(screen.messages).toEqual([
    { role: 'user', text: question },
    { role: 'assistant', text: right },
  ]);
  const isPossible = ({ messages }: Screen): boolean => {
    const texts = (wanted: string) => messages.flatMap(({ role, text }) => (role === wanted ? [text] : []));
    const [questions, answers] = [texts('user'), texts('assistant')];
    return (
      questions.length <= 1 &&
      answers.length <= 1 &&
      questions.every((text) => text === question) &&
      answers.every((text) => answerTo(question).startsWith(text))
    );
  };
  expect(screens.filter((each) => !isPossible(each))).toEqual([]);
}

/** So many conversations begin at once: a worker whose machine is too busy takes no more replies for a while. */
const BEGINNING_AT_ONCE = 4;

/** Where conversations wait for each other. */
class Meeting {
  private free = BEGINNING_AT_ONCE;
  private readonly atTheDoor: (() => void)[] = [];
  private waiting = 0;
  private readonly done = Promise.withResolvers<void>();
  private work: (() => Promise<void>) | null = null;

  constructor(private expected: number) {}

  /** Waits for its turn to begin. @returns what gives the turn to the next, and may be called more than once */
  async enter(): Promise<() => void> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.atTheDoor.push(resolve));
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      const next = this.atTheDoor.shift();
      if (next) next();
      else this.free++;
    };
  }

  /** Once all that have not left have come, the work is done, once. */
  together(work: () => Promise<void>): Promise<void> {
    this.waiting++;
    this.work ??= work;
    this.begin();
    return this.done.promise;
  }

  /** One has come to its end. */
  leave(): void {
    this.expected--;
    this.begin();
  }

  private begin(): void {
    if (this.work === null || this.waiting < this.expected) return;
    const { work } = this;
    this.work = null;
    this.expected = Infinity; // it happens once
    work().then(this.done.resolve, this.done.reject);
  }
}
