import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { ExtractiveClient } from '../../src/llm/extractive-client.js';
import { LlmError, LlmErrorCode } from '../../src/llm/llm-client.js';
import { LlmModels } from '../../src/llm/llm-models.js';
import { OpenAiClient } from '../../src/llm/openai-client.js';

const timeouts = {
  connectTimeoutMs: 1,
  firstTokenTimeoutMs: 1,
  thinkingTimeoutMs: 1_000,
  idleTimeoutMs: 1,
  totalTimeoutMs: 1,
};
const first = new OpenAiClient({ model: 'first', ...timeouts });
const second = new ExtractiveClient();
const outage = new LlmError(LlmErrorCode.ProviderUnavailable, 'down', { isRetryable: true });
const refusal = new LlmError(LlmErrorCode.ProviderRejected, 'no', { isRetryable: false });

const CIRCUIT_OPEN_MS = 10_000;

const failing = (error: unknown) => () => Promise.reject(error);

describe('choosing a model', () => {
  beforeEach(() => {
    jest.useFakeTimers({ now: 0 });
  });
  afterEach(() => {
    jest.useRealTimers();
  });

  it('takes the chatbot’s own, else the first, and the second after the first’s attempts', () => {
    const models = new LlmModels(first, second, 2, CIRCUIT_OPEN_MS);
    expect(models.choose(null, 0).name).toBe('first');
    expect(models.choose('own', 1).name).toBe('own');
    expect(models.choose('own', 2)).toMatchObject({ name: 'extractive', model: null });
    expect(new LlmModels(first, null, 2, CIRCUIT_OPEN_MS).choose('own', 9).name).toBe('own');
  });

  it('leaves a model alone after five outages in a row, and tries it once after ten seconds', async () => {
    const models = new LlmModels(first, second, 2, CIRCUIT_OPEN_MS);
    for (let i = 0; i < 5; i++) {
      await expect(models.choose('own', 0).run(failing(outage))).rejects.toBe(outage);
    }
    expect(models.choose('own', 0).name).toBe('extractive');
    expect(models.choose(null, 0).name).toBe('first'); // another model of the same server

    jest.setSystemTime(10_000);
    const trial = models.choose('own', 0);
    expect(trial.name).toBe('own');
    let finish = (): void => undefined;
    const trying = trial.run(() => new Promise<void>((resolve) => (finish = resolve)));
    expect(models.choose('own', 0).name).toBe('extractive'); // nobody waits behind the trial
    finish();
    await trying;
    expect(models.choose('own', 0).name).toBe('own');
  });

  it('leaves it alone again when the one call meets an outage, and no longer when it meets anything else', async () => {
    const models = new LlmModels(first, second, 2, CIRCUIT_OPEN_MS);
    const ask = (error: unknown): Promise<void> => models.choose(null, 0).run(failing(error));
    for (let i = 0; i < 5; i++) await expect(ask(outage)).rejects.toBe(outage);

    jest.setSystemTime(10_000);
    await expect(ask(outage)).rejects.toBe(outage);
    expect(models.choose(null, 0).name).toBe('extractive');
    jest.setSystemTime(19_999);
    expect(models.choose(null, 0).name).toBe('extractive');

    jest.setSystemTime(20_000);
    await expect(ask(refusal)).rejects.toBe(refusal);
    for (let i = 0; i < 4; i++) {
      await expect(ask(outage)).rejects.toBe(outage);
      expect(models.choose(null, 0).name).toBe('first'); // counted from the beginning
    }
    await expect(ask(outage)).rejects.toBe(outage);
    expect(models.choose(null, 0).name).toBe('extractive');
  });

  it('says when to come back, where there is no second', async () => {
    const models = new LlmModels(first, null, 2, CIRCUIT_OPEN_MS);
    for (let i = 0; i < 5; i++)
      await models
        .choose(null, 0)
        .run(failing(outage))
        .catch(() => undefined);
    jest.setSystemTime(4_000);

    const call = jest.fn<() => Promise<void>>();
    const refused = models.choose(null, 0).run(call);

    await expect(refused).rejects.toMatchObject({
      code: 'provider_unavailable',
      options: { isRetryable: true, retryAfterMs: 6_000 },
    });
    expect(call).not.toHaveBeenCalled();
  });

  it('does not count what is not an outage', async () => {
    const models = new LlmModels(first, second, 2, CIRCUIT_OPEN_MS);
    for (let i = 0; i < 20; i++) {
      await models
        .choose(null, 0)
        .run(failing(refusal))
        .catch(() => undefined);
      await models
        .choose(null, 0)
        .run(failing('the worker stops'))
        .catch(() => undefined);
    }
    expect(models.choose(null, 0).name).toBe('first');
  });
});
