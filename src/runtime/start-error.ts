/** A reason not to start that a person can do something about: its message is all that is shown, without a stack. */
export class StartError extends Error {
  override readonly name: string = 'StartError';
}
