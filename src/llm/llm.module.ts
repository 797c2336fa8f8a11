import { Module, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { type Timings, TIMINGS } from '../runtime/timings.js';
import { allowedModels } from './allowed-models.js';
import { ExtractiveClient } from './extractive-client.js';
import type { LlmClient } from './llm-client.js';
import { LlmModels } from './llm-models.js';
import { OpenAiClient } from './openai-client.js';

type Settings = Pick<
  Config,
  | 'OPENAI_API_KEY'
  | 'OPENAI_BASE_URL'
  | 'OPENAI_MODEL'
  | 'OPENAI_FALLBACK_MODEL'
  | 'ALLOWED_MODELS'
  | 'OPENAI_FALLBACK_BASE_URL'
  | 'OPENAI_FALLBACK_API_KEY'
  | 'REPLY_ATTEMPTS'
  | 'LLM_CONNECT_TIMEOUT_MS'
  | 'LLM_FIRST_TOKEN_TIMEOUT_MS'
  | 'LLM_IDLE_TIMEOUT_MS'
  | 'LLM_TOTAL_TIMEOUT_MS'
  | 'LLM_THINKING_TIMEOUT_MS'
  | 'LLM_THINKS_FIRST_MODELS'
  | 'HTTP_PROXY'
  | 'HTTPS_PROXY'
  | 'NO_PROXY'
>;

/** The configured models: a chat-completions server where one is named, else the offline responder. */
function createLlmModels(config: Settings, { circuitOpenMs }: Pick<Timings, 'circuitOpenMs'>): LlmModels {
  if (config.OPENAI_API_KEY === undefined && config.OPENAI_BASE_URL === undefined) {
    return new LlmModels(new ExtractiveClient(), null, config.REPLY_ATTEMPTS, circuitOpenMs);
  }
  const client = (model: string, baseUrl: string | undefined, apiKey: string | undefined): LlmClient =>
    new OpenAiClient({
      model,
      baseUrl,
      apiKey,
      connectTimeoutMs: config.LLM_CONNECT_TIMEOUT_MS,
      firstTokenTimeoutMs: config.LLM_FIRST_TOKEN_TIMEOUT_MS,
      idleTimeoutMs: config.LLM_IDLE_TIMEOUT_MS,
      totalTimeoutMs: config.LLM_TOTAL_TIMEOUT_MS,
      thinkingTimeoutMs: config.LLM_THINKING_TIMEOUT_MS,
      thinksFirstModels: config.LLM_THINKS_FIRST_MODELS,
      proxies: { httpProxy: config.HTTP_PROXY, httpsProxy: config.HTTPS_PROXY, noProxy: config.NO_PROXY },
    });
  const { OPENAI_FALLBACK_MODEL: fallback, OPENAI_FALLBACK_BASE_URL: otherUrl } = config;
  return new LlmModels(
    client(config.OPENAI_MODEL, config.OPENAI_BASE_URL, config.OPENAI_API_KEY),
    fallback === undefined
      ? null
      : client(
          fallback,
          otherUrl ?? config.OPENAI_BASE_URL,
          // The first server's key is for the first server alone.
          config.OPENAI_FALLBACK_API_KEY ?? (otherUrl === undefined ? config.OPENAI_API_KEY : undefined),
        ),
    config.REPLY_ATTEMPTS,
    circuitOpenMs,
    allowedModels(config),
  );
}

@Module({
  providers: [{ provide: LlmModels, inject: [CONFIG, TIMINGS], useFactory: createLlmModels }],
  exports: [LlmModels],
})
export class LlmModule implements OnApplicationShutdown {
  constructor(private readonly models: LlmModels) {}

  /** Nest calls it after every `onModuleDestroy`, when the workers have drained. */
  async onApplicationShutdown(): Promise<void> {
    await this.models.close();
  }
}
