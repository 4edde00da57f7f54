/** The configs as they were before an import: sealed in the state directory, for the way back. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import type { Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Sealed, Sealer } from '../secret/sealing.ts';
import { Secret } from '../secret/secret.ts';

/** What is in the folder, as JSON: nothing in it is a value. */
interface CopyFile {
  readonly v: 1;
  /** Where it really lies. */
  readonly file: string;
  readonly at: number;
  /** What was moved out of it. */
  readonly references: readonly string[];
  readonly sealed: Sealed;
}

export interface Copy {
  readonly at: number;
  readonly references: readonly string[];
  /** As it was before the import. */
  readonly before: Buffer;
  /** The SHA-256 of what the import made of it. */
  readonly afterDigest: string;
}

export interface Copies {
  /** On the disk when it resolves. Returns its id. */
  add(file: string, copy: Omit<Copy, 'at'>, at: number): Promise<string>;
  /** The newest of this file; null where there is none. Throws `seal-broken`, `key-unknown`. */
  newest(file: string): Promise<{ readonly id: string; readonly copy: Copy } | null>;
  remove(id: string): void;
}

const folderName = 'imports';
/** Ways back of one file; older ones go. */
const copiesMost = 10;

export function openCopies(state: string, sealer: Sealer, random: Random): Copies {
  const folder = path.join(state, folderName);

  function idsOf(file: string): readonly string[] {
    if (!existsSync(folder)) return [];
    const prefix = `${nameOf(file)}-`;
    return readdirSync(folder)
      .filter((name) => name.startsWith(prefix) && name.endsWith('.json'))
      .sort();
  }

  return {
    async add(file, { references, before, afterDigest }, at) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const fields = {
        before: new Secret(before.toString('base64')),
        afterDigest: new Secret(afterDigest),
      };
      const number = Number(/-(\d+)\.json$/.exec(idsOf(file).at(-1) ?? '')?.[1] ?? 0) + 1;
      const id = `${nameOf(file)}-${String(number).padStart(6, '0')}.json`;
      const sealed = await sealer.seal(fields, contextOf(id));
      const content: CopyFile = { v: 1, file, at, references, sealed };
      const aside = path.join(folder, `.${id}.${random.bytes(4).toString('hex')}`);
      const handle = await open(aside, 'wx', 0o600);
      try {
        await handle.writeFile(`${JSON.stringify(content)}\n`);
        await handle.sync();
      } finally {
        await handle.close();
      }
      renameSync(aside, path.join(folder, id));
      for (const old of idsOf(file).slice(0, -copiesMost)) rmSync(path.join(folder, old));
      return id;
    },
    async newest(file) {
      const id = idsOf(file).at(-1);
      if (id === undefined) return null;
      const { at, references, sealed } = parse(path.join(folder, id));
      const fields = await sealer.open(sealed, contextOf(id));
      const before = Buffer.from(fields['before']?.reveal() ?? '', 'base64');
      const afterDigest = fields['afterDigest']?.reveal() ?? '';
      return { id, copy: { at, references, before, afterDigest } };
    },
    remove: (id) => rmSync(path.join(folder, id), { force: true }),
  };
}

export function digestOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Names of files may be anything, and as long as the system allows. */
function nameOf(file: string): string {
  return createHash('sha256').update(file).digest('hex').slice(0, 24);
}

/** The whole name is bound in: one file's copy does not open as another's. */
function contextOf(id: string) {
  return { secret: 'import', rotation: id, purpose: 'copy' };
}

function parse(file: string): CopyFile {
  try {
    const content = JSON.parse(readFileSync(file, 'utf8')) as CopyFile;
    if (content.v === 1) return content;
  } catch {
    // Said below, without the text.
  }
  throw new RotatedError('seal-broken', `The sealed copy ${file} cannot be read.`, {
    next: 'Restore the state directory from a backup.',
  });
}
