import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { Readiness } from './readiness.js';
import { Shutdown } from './shutdown.js';

/** What a process is: ready, or not; and how it stops. */
@Module({
  imports: [TerminusModule],
  providers: [Shutdown, Readiness],
  exports: [Shutdown, Readiness],
})
export class RuntimeModule {}
