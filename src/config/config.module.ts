import { type DynamicModule, Module } from '@nestjs/common';
import { DEFAULT_TIMINGS, type Timings, TIMINGS } from '../runtime/timings.js';
import type { Config } from './env.js';

/** Injection token of the validated {@link Config}. */
export const CONFIG = Symbol('CONFIG');

/** Global, as configuration is in Nest: what a process read at its start is the same everywhere in it. */
@Module({})
export class ConfigModule {
  /** @param timings those that differ from the defaults */
  static forRoot(config: Config, timings: Partial<Timings> = {}): DynamicModule {
    return {
      module: ConfigModule,
      global: true,
      providers: [
        { provide: CONFIG, useValue: config },
        { provide: TIMINGS, useValue: { ...DEFAULT_TIMINGS, ...timings } },
      ],
      exports: [CONFIG, TIMINGS],
    };
  }
}
