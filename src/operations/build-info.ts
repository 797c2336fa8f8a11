import { Inject, Injectable } from '@nestjs/common';
import { CONFIG } from '../config/config.module.js';
import type { Config } from '../config/env.js';
import { Metrics } from '../metrics/metrics.js';
import { commitOf, VERSION } from '../runtime/version.js';

/** Which program this process is, for who operates it. */
@Injectable()
export class BuildInfo {
  readonly version = VERSION;
  /** `unknown` where nothing says it. */
  readonly commit: string;

  constructor(@Inject(CONFIG) { role, GIT_COMMIT }: Pick<Config, 'role' | 'GIT_COMMIT'>, metrics: Metrics) {
    this.commit = commitOf(GIT_COMMIT);
    metrics
      .gauge({
        name: 'assistly_build_info',
        help: 'Always 1: its labels say which program the process is.',
        labelNames: ['role', 'version', 'commit'],
      })
      .set({ role, version: this.version, commit: this.commit }, 1);
  }
}
