/**
 * What no name holds: line breaks, control characters, and those that format, among them the ones that turn the direction
 * of the text. The two joiners are needed between the letters of some scripts.
 */
export const NOT_IN_NAMES = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;
