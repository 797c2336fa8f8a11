/** Why an attempt is stopped from within this process; the reason with which its controller aborts. */
export const StopReason = {
  /** Another worker holds the claim, or the reply is final: publish and write nothing more. */
  Lost: 'the claim is lost',
  /** The process shuts down: give the claim back, without charging the attempt as a failure. */
  HandBack: 'the worker stops',
} as const;
export type StopReason = (typeof StopReason)[keyof typeof StopReason];
