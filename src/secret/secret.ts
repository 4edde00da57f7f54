/** The box a secret value lives in: nothing prints it, `reveal()` is the only way out. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { inspect } from 'node:util';

export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The plaintext. Call it only where the value leaves for the issuer, a consumer or a seal. */
  reveal(): string {
    return this.#value;
  }

  /** Compares in time that does not depend on where the values differ. */
  equals(other: Secret): boolean {
    const digest = (value: string) => createHash('sha256').update(value).digest();
    return timingSafeEqual(digest(this.#value), digest(other.#value));
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}

/** One credential: field name → value. Field names are not secret. */
export type Fields = Readonly<Record<string, Secret>>;

export function fieldsEqual(a: Fields, b: Fields): boolean {
  const names = Object.keys(a).sort();
  const others = Object.keys(b).sort();
  if (names.length !== others.length) return false;
  return names.every((name, index) => {
    const [x, y] = [a[name], b[name]];
    return name === others[index] && x !== undefined && y !== undefined && x.equals(y);
  });
}
