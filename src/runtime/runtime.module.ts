import { Global, Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { Readiness } from './readiness.js';
import { Shutdown } from './shutdown.js';

@Global()
@Module({
  imports: [TerminusModule],
  providers: [Shutdown, Readiness],
  exports: [Shutdown, Readiness],
})
export class RuntimeModule {}
