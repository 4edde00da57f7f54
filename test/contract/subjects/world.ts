/** What the subjects of the provider contract share: contexts with real clocks, values that would show in a leak. */
import { systemClock, systemRandom } from '../../../src/clock.ts';
import { RotatedError } from '../../../src/errors.ts';
import { type Fields, type ProviderContext, Secret } from '../../../src/provider/provider.ts';

/** Hostile issuers send it; nothing that we print may hold it. */
export const echoCanary = 'echo-of-the-issuer-5f0c9b';

export function boxed(values: Readonly<Record<string, string>>): Fields {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, new Secret(value)]),
  );
}

/** null: the policy names no admin credential. */
export function contextOf(
  secret: string,
  admin: Readonly<Record<string, string>> | null,
  directory = process.cwd(),
): ProviderContext {
  return {
    secret,
    clock: systemClock(),
    random: systemRandom(),
    directory,
    async admin() {
      if (admin !== null) return boxed(admin);
      throw new RotatedError('policy-invalid', 'The policy names no admin credential.');
    },
  };
}

/** Another value of the same length, wherever `from` stands in it. */
export function replaced(fields: Fields, from: string, to: string): Fields {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [
      name,
      new Secret(value.reveal().replaceAll(from, to)),
    ]),
  );
}

/** Every letter and digit moved on by one. */
export function shifted(text: string): string {
  return text.replaceAll(/[a-z0-9]/gi, (one) =>
    one === 'z'
      ? 'a'
      : one === 'Z'
        ? 'A'
        : one === '9'
          ? '0'
          : String.fromCharCode(one.charCodeAt(0) + 1),
  );
}
