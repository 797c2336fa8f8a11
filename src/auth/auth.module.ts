import { Module } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { DatabaseModule } from '../database/database.module.js';
import { AuthGuard } from './auth.guard.js';
import { IdentityTokens } from './identity-tokens.js';
import { OwnerTokens } from './owner-tokens.js';

@Module({
  imports: [DatabaseModule],
  providers: [
    { provide: OwnerTokens, inject: [CONFIG], useFactory: (config: Config) => new OwnerTokens(config) },
    IdentityTokens,
    AuthGuard,
  ],
  exports: [AuthGuard, IdentityTokens],
})
export class AuthModule {}
