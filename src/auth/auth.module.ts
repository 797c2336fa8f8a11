import { Global, Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { AuthGuard } from './auth.guard.js';
import { OwnerTokens } from './owner-tokens.js';

@Global()
@Module({
  providers: [
    { provide: OwnerTokens, inject: [CONFIG], useFactory: (config: Config) => new OwnerTokens(config) },
    { provide: APP_GUARD, useClass: AuthGuard },
  ],
})
export class AuthModule {}
