import { Module } from '@nestjs/common';
import { RepliesModule } from './replies/replies.module.js';

/** The role `worker`: it generates replies, and has no routes but its health. */
@Module({ imports: [RepliesModule] })
export class WorkerModule {}
