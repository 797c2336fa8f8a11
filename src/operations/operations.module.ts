import { Module } from '@nestjs/common';
import { operatorCredentials } from '../auth/operator.js';
import { CONFIG } from '../config/config.module.js';
import { HealthController, OPERATOR } from './health.controller.js';

@Module({
  controllers: [HealthController],
  providers: [{ provide: OPERATOR, inject: [CONFIG], useFactory: operatorCredentials }],
})
export class HealthModule {}
