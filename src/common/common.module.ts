import { Global, Module } from '@nestjs/common';
import { Readiness } from './readiness.js';
import { Shutdown } from './shutdown.js';

@Global()
@Module({ providers: [Shutdown, Readiness], exports: [Shutdown, Readiness] })
export class CommonModule {}
