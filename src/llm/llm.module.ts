import { Module, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { ExtractiveClient } from './extractive-client.js';
import { LlmClient } from './llm-client.js';
import { OpenAiClient } from './openai-client.js';

/** The configured model: a chat-completions server where one is named, else the offline responder. */
export function createLlmClient(config: Config): LlmClient {
  if (config.OPENAI_API_KEY === undefined && config.OPENAI_BASE_URL === undefined) {
    return new ExtractiveClient();
  }
  return new OpenAiClient({
    apiKey: config.OPENAI_API_KEY,
    baseUrl: config.OPENAI_BASE_URL,
    model: config.OPENAI_MODEL,
    connectTimeoutMs: config.LLM_CONNECT_TIMEOUT_MS,
    firstTokenTimeoutMs: config.LLM_FIRST_TOKEN_TIMEOUT_MS,
    idleTimeoutMs: config.LLM_IDLE_TIMEOUT_MS,
    totalTimeoutMs: config.LLM_TOTAL_TIMEOUT_MS,
  });
}

@Module({
  providers: [
    {
      provide: LlmClient,
      inject: [CONFIG],
      useFactory: (config: Config): LlmClient => createLlmClient(config),
    },
  ],
  exports: [LlmClient],
})
export class LlmModule implements OnApplicationShutdown {
  constructor(private readonly llm: LlmClient) {}

  /** Nest calls it after every `onModuleDestroy`, when the workers have drained. */
  async onApplicationShutdown(): Promise<void> {
    await this.llm.close();
  }
}
