import { patchFile } from './cluster.mjs';

/**
 * The product with one of its defences taken out, in a copy of the build. Each must make a round fail: a chaos test
 * that never fails proves nothing. `faults` and `provider` provoke what the defence is there for.
 */
export const MUTANTS = {
  'no-finish-reason-check': {
    what: 'a stream that is cut counts as a whole answer',
    backend: 'postgres',
    faults: { killWorker: 1 },
    everyMs: [8_000, 12_000],
    provider: { ok: 75, cut: 25 },
    patch: (directory) =>
      patchFile(
        directory,
        'dist/src/worker/model-call.js',
        'const { finish, text, usage } = this;',
        "const { finish = { reason: 'stop', isRefusal: false }, text, usage } = { ...this, finish: this.finish ?? undefined };",
      ),
  },
  'no-redispatch': {
    what: 'the reconciler never enqueues a reply again',
    backend: 'postgres',
    faults: { deleteJobs: 1 },
    everyMs: [1_000, 2_000],
    patch: (directory) =>
      patchFile(
        directory,
        'dist/src/conversations/reply-store/reconciliation.js',
        'dispatches: found.due.map((reply) => toDispatch(reply, 0))',
        'dispatches: []',
      ),
  },
  'no-lease-recovery': {
    what: 'a lease that ran out is never cleared',
    backend: 'redis',
    faults: { killWorker: 1 },
    everyMs: [4_000, 6_000],
    patch: (directory) =>
      patchFile(
        directory,
        'dist/src/conversations/reply-store/reconciliation.js',
        ".where('lease_until', '<', now)",
        ".where('lease_until', '<', now).where('id', 'is', null)",
      ),
  },
  'fence-by-id-only': {
    what: 'a worker’s writes name the reply and nothing else',
    backend: 'redis',
    faults: { freezeRedis: 3, restartRedis: 2, killPubSub: 1 },
    everyMs: [1_500, 3_000],
    cancelShare: 0.5,
    patch: (directory) =>
      patchFile(
        directory,
        'dist/src/conversations/reply-store/transitions.js',
        'aReply.and({ id: replyId, lease_token: leaseToken, status: ReplyStatus.InProgress })',
        'aReply.and({ id: replyId })',
      ),
  },
};
