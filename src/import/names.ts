/** Names for servers, secrets and fields: what the parser of policies accepts, each given once. */
import { RotatedError } from '../errors.ts';

const nameLengthMax = 48;

/** `GitHub (work)` → `github-work`. */
export function slug(label: string): string {
  const text = label
    .normalize('NFKD')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, nameLengthMax)
    .replace(/-+$/, '');
  return text === '' ? 'server' : text;
}

/** More of one name are a loop, not a wish. */
const numberMax = 10_000;

/** `name`, or `name-2` and on, where `isTaken` says so. */
export function freeName(name: string, isTaken: (name: string) => boolean, sign = '-'): string {
  if (!isTaken(name)) return name;
  for (let number = 2; number <= numberMax; number++) {
    const next = `${name}${sign}${number}`;
    if (!isTaken(next)) return next;
  }
  throw new RotatedError('refused', `There are ${numberMax} things called ${name} already.`, {
    next: 'Rename the server in its config.',
  });
}
