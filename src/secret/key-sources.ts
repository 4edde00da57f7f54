/** Where key-encryption keys come from: a file, a systemd credential, the environment; and what makes one unsafe. */
import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, mkdir, open, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import { keyBytes, localKey } from './key-encryption-key.ts';
import type { KeyEncryptionKey } from './sealing.ts';
import type { SealingKeys } from './sealer.ts';

export interface KeyRing extends SealingKeys {
  /**
   * The oldest key: fingerprints, digests and the audit chain derive from it, so that they stay the same when a new key
   * is added. Removing it breaks the verification of the audit lines written so far.
   */
  readonly anchor: KeyEncryptionKey;
  readonly warnings: readonly string[];
}

export interface KeySource {
  /** For messages: `the key file /path`. */
  readonly what: string;
  /** Throws `key-missing` or `key-unsafe`. */
  load(): Promise<KeyRing>;
}

const linePrefix = 'rotated-key-1:';
const bytesMost = 64 * 1024;

/**
 * One key per line, `rotated-key-1:` and 32 bytes in base64; the last line seals, all of them open. The file has mode
 * 0600 or stricter and belongs to this user. With `create`, a missing file is made with one fresh key.
 */
export function fileKey(
  path: string,
  { random, create }: { readonly random: Random; readonly create: boolean },
): KeySource {
  const what = `the key file ${path}`;
  return {
    what,
    async load() {
      const text = await readKeyFile(path, what, refuseShared);
      if (text !== null) return ringOf(text, what, random);
      if (!create) {
        throw new RotatedError('key-missing', `There is no key file at ${path}.`, {
          next: `Put the key file back at ${path}: what is sealed opens with no other key.`,
        });
      }
      await createKeyFile(path, random);
      const created = await readKeyFile(path, what, refuseShared);
      return ringOf(created ?? '', what, random);
    },
  };
}

/** The systemd credential `rotated-key`: `directory` is $CREDENTIALS_DIRECTORY. Same format as the key file. */
export function credentialKey(
  directory: string,
  { random, name = 'rotated-key' }: { readonly random: Random; readonly name?: string },
): KeySource {
  const path = join(directory, name);
  const what = `the systemd credential ${name}`;
  return {
    what,
    async load() {
      const text = await readKeyFile(path, what, refuseWorldReadable);
      if (text !== null) return ringOf(text, what, random);
      throw new RotatedError('key-missing', `There is no ${path}.`, {
        next: `Add \`LoadCredentialEncrypted=${name}\` to the unit, or start with a key file.`,
      });
    },
  };
}

/** Keys in an environment variable, separated by white space. Other processes of this user can read it, hence the warning. */
export function environmentKey(
  value: string | undefined,
  { random, variable }: { readonly random: Random; readonly variable: string },
): KeySource {
  const what = `the environment variable ${variable}`;
  return {
    what,
    async load() {
      if (value === undefined || value.trim() === '') {
        throw new RotatedError('key-missing', `${capital(what)} is empty.`, {
          next: `Set ${variable} to a line of a key file, or start with a key file.`,
        });
      }
      const ring = ringOf(value.trim().replaceAll(/\s+/g, '\n'), what, random);
      const warning = `The key comes from ${what}: children and debuggers of this user can read it. Use a key file or a systemd credential.`;
      return { ...ring, warnings: [...ring.warnings, warning] };
    },
  };
}

/** One line of a key file. */
export function freshKeyLine(random: Random): string {
  return `${linePrefix}${random.bytes(keyBytes).toString('base64')}\n`;
}

function ringOf(text: string, what: string, random: Random): KeyRing {
  const keys: KeyEncryptionKey[] = [];
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const bytes = Buffer.from(line.slice(linePrefix.length), 'base64');
    if (!line.startsWith(linePrefix) || bytes.length !== keyBytes) {
      throw new RotatedError('key-missing', `Line ${index + 1} of ${what} is not a key.`, {
        next: `Each line reads ${linePrefix}BASE64, with ${keyBytes} bytes in base64.`,
      });
    }
    keys.push(localKey(bytes, random));
    bytes.fill(0);
  }
  const [anchor, current] = [keys[0], keys.at(-1)];
  if (anchor === undefined || current === undefined) {
    throw new RotatedError('key-missing', `${capital(what)} holds no key.`, {
      next: 'Put the key file back: what is sealed opens with no other key.',
    });
  }
  return { anchor, current, all: keys, warnings: [] };
}

/** null where there is no such file. Checked on the open file, so that it cannot be exchanged in between. */
async function readKeyFile(
  path: string,
  what: string,
  check: (stats: Stats, path: string) => void,
): Promise<string | null> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY);
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return null;
    throw unreadable(error, path, what);
  }
  try {
    const stats = await file.stat();
    if (!stats.isFile() || stats.size > bytesMost) {
      throw new RotatedError('key-missing', `${path} is not a key file.`, {
        next: `Put ${what} in its place.`,
      });
    }
    check(stats, path);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

function refuseShared(stats: Stats, path: string): void {
  const uid = process.geteuid?.();
  if (uid !== undefined && stats.uid !== uid) {
    throw new RotatedError(
      'key-unsafe',
      `The key file ${path} belongs to user ${stats.uid}, not to user ${uid}.`,
      {
        next: `chown ${uid} ${path}`,
      },
    );
  }
  if ((stats.mode & 0o077) !== 0) {
    throw new RotatedError(
      'key-unsafe',
      `The key file ${path} has mode ${modeOf(stats)}: others can read it.`,
      {
        next: `chmod 600 ${path}`,
      },
    );
  }
}

/** systemd grants a service its credentials by an access control list, whose mask shows as group bits. */
function refuseWorldReadable(stats: Stats, path: string): void {
  if ((stats.mode & 0o007) === 0) return;
  throw new RotatedError(
    'key-unsafe',
    `The credential ${path} has mode ${modeOf(stats)}: everyone can read it.`,
    {
      next: `chmod 400 ${path}`,
    },
  );
}

/** Written aside, synced, then linked: the name appears with the whole key or not at all, and never replaces another. */
async function createKeyFile(path: string, random: Random): Promise<void> {
  const directory = dirname(path);
  const aside = join(directory, `.${basename(path)}.${random.bytes(6).toString('hex')}`);
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeSynced(aside, freshKeyLine(random));
    try {
      await link(aside, path);
    } catch (error) {
      // Another process made it first: theirs is the key.
      if (!isSystemError(error, 'EEXIST')) throw error;
    } finally {
      await unlink(aside);
    }
    await syncDirectory(directory);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new RotatedError('key-missing', `The key file ${path} cannot be made (${code}).`, {
      next: `Make ${directory} writable for this user, or name another key file.`,
    });
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function unreadable(error: unknown, path: string, what: string): RotatedError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
  return new RotatedError('key-missing', `${capital(what)} cannot be read (${code}).`, {
    next: `Give this user the right to read ${path}.`,
  });
}

function isSystemError(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === code;
}

function modeOf(stats: Stats): string {
  return `0${(stats.mode & 0o777).toString(8)}`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
