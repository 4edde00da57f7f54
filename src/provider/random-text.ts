/** Passwords and ids from a given source of randomness, every character equally likely. */
import type { Random } from '../clock.ts';

/** No characters that a shell, a URL or a connection string gives a meaning. */
export const plainAlphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** `length` characters of `alphabet`, which has 2 to 256 distinct ones. */
export function randomText(
  random: Random,
  length: number,
  alphabet: string = plainAlphabet,
): string {
  // Bytes beyond the last whole multiple would make the first characters likelier.
  const usable = 256 - (256 % alphabet.length);
  let text = '';
  while (text.length < length) {
    for (const byte of random.bytes(2 * length)) {
      if (byte < usable && text.length < length) text += alphabet[byte % alphabet.length];
    }
  }
  return text;
}
