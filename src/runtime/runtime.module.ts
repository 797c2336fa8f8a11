import { Module } from '@nestjs/common';
import { Readiness } from './readiness.js';
import { Shutdown } from './shutdown.js';

/** What a process is: ready, or not; and how it stops. */
@Module({
  providers: [Shutdown, Readiness],
  exports: [Shutdown, Readiness],
})
export class RuntimeModule {}
