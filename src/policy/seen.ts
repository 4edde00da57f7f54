/** How a value of a policy file is shown in a message: short, and never one that may be a secret. */
import type { Path } from './document.ts';
import { kindOf, valueAt } from './issues.ts';
import { looksSecret } from './plaintext.ts';
import { parseReference } from './reference.ts';

const shownMost = 60;

/** null where there is nothing to show, or where it must not be shown. */
export function seenAt(root: unknown, path: Path, secrets: readonly string[]): string | null {
  const value = valueAt(root, path);
  if (value === undefined) return null;
  if (typeof value === 'number' || typeof value === 'boolean') return scrub(String(value), secrets);
  if (typeof value !== 'string') return kindOf(value);
  if ((isPrivatePlace(path) && 'wrong' in parseReference(value)) || mayBeSecret(value))
    return `a text of ${value.length} characters (not shown)`;
  const shown = value.length > shownMost ? `${value.slice(0, shownMost)}…` : value;
  return scrub(JSON.stringify(shown), secrets);
}

/** Takes every known secret out of a text that somebody else's words may be in. */
export function scrub(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length > 0) clean = clean.replaceAll(secret, '[not shown]');
  }
  return clean;
}

/** Where a secret is easily put by mistake: a header, a body, or instead of a reference to it. */
function isPrivatePlace(path: Path): boolean {
  const names = path.filter((part) => typeof part === 'string');
  return (
    names.some((name) => name === 'headers' || name === 'body') ||
    ['admin', 'key'].includes(names.at(-1) ?? '')
  );
}

function mayBeSecret(value: string): boolean {
  if (looksSecret(value)) return true;
  // A place in a backend or a plain address: no user, no query, no placeholder.
  if (/^[a-z]+:\/\/[\w.:[\]/#-]*$/.test(value)) return false;
  if (value.includes('://')) return true;
  const isDense = /^[!-~]{16,}$/.test(value);
  return (
    isDense && /\d/.test(value) && /[A-Za-z]/.test(value) && !/^[a-z]+([/_-][a-z]+)*$/.test(value)
  );
}
