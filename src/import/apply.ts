/** Does what a plan says, in the one order in which no crash loses a key: backend, grants, policies, then each config. */
import { linkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Random } from '../clock.ts';
import { asRotatedError, RotatedError } from '../errors.ts';
import type { Fields } from '../secret/secret.ts';
import { type Copies, digestOf } from './copies.ts';
import type { FilePlan, Plan } from './plan.ts';
import { policyFiles } from './policy-text.ts';
import { type At, type ReadFile, replaceFile } from './replace-file.ts';
import { applyEdits } from './rewrite.ts';

export interface Grant {
  readonly server: string;
  readonly hash: string;
  readonly program: string;
  readonly references: readonly string[];
}

export interface ApplyPorts {
  keep(item: string, fields: Fields): Promise<'new' | 'same' | 'taken'>;
  grant(grant: Grant): Promise<void>;
  readonly copies: Copies;
  /** The folder of the policy files: it exists. */
  readonly policies: string;
  readonly random: Random;
  now(): number;
  /** As they were read when the plan was made, by the name they were given. */
  readonly files: ReadonlyMap<string, ReadFile>;
  /** Where it is, for tests that stop it there. */
  readonly at?: (point: 'kept' | 'granted' | 'policies' | 'copied' | Parameters<At>[0]) => void;
}

export interface Applied {
  readonly policies: readonly string[];
  readonly files: readonly {
    readonly file: string;
    readonly changed: boolean;
    /** Why it is as it was, although it should have changed. */
    readonly error: RotatedError | null;
  }[];
}

export async function applyPlan(plan: Plan, ports: ApplyPorts): Promise<Applied> {
  // The keys are safe before anything takes them out of a config.
  for (const { item, fields } of plan.items) {
    if ((await ports.keep(item, fields)) !== 'taken') continue;
    throw new RotatedError('conflict', `local://${item} was written by somebody else meanwhile.`, {
      next: 'Run the import again: nothing was changed in any config.',
    });
  }
  ports.at?.('kept');
  for (const grant of grantsOf(plan)) await ports.grant(grant);
  ports.at?.('granted');
  const policies = policyFiles(plan).map(({ name, text }) => writePolicy(ports, name, text));
  ports.at?.('policies');
  const files: Applied['files'][number][] = [];
  for (const file of plan.files) {
    if (file.edits.length === 0) continue;
    files.push(await rewriteFile(file, ports));
  }
  return { policies, files };
}

/** One for each server and command, with all that it may ask for. */
export function grantsOf(plan: Plan): readonly Grant[] {
  const grants = new Map<string, Grant>();
  for (const { name, rewrite } of plan.files.flatMap(({ entries }) => entries)) {
    if (name === null || rewrite?.grant == null) continue;
    const { hash, program, references } = rewrite.grant;
    const key = `${name} ${hash}`;
    const before = grants.get(key)?.references ?? [];
    const all = [...new Set([...before, ...references])];
    grants.set(key, { server: name, hash, program, references: all });
  }
  return [...grants.values()];
}

async function rewriteFile(
  { config, edits, entries }: FilePlan,
  ports: ApplyPorts,
): Promise<Applied['files'][number]> {
  const { file } = config;
  const read = ports.files.get(file) as ReadFile;
  const after = Buffer.from(config.mark + applyEdits(config.text, edits));
  const references = new Set(entries.flatMap((entry) => entry.rewrite?.grant?.references ?? []));
  const copy = { references: [...references], before: read.bytes, afterDigest: digestOf(after) };
  let id: string | null = null;
  try {
    id = await ports.copies.add(read.real, copy, ports.now());
    ports.at?.('copied');
    await replaceFile(read, after, ports.random, (point) => ports.at?.(point));
    return { file, changed: true, error: null };
  } catch (thrown) {
    if (id !== null) ports.copies.remove(id);
    return { file, changed: false, error: asRotatedError(thrown, 'none') };
  }
}

/** Names tried before somebody has to look. */
const sameNameMost = 100;

/** Whole or not at all, and never over another. */
function writePolicy({ policies, random }: ApplyPorts, name: string, text: string): string {
  const aside = path.join(policies, `.${name}.${random.bytes(4).toString('hex')}`);
  writeFileSync(aside, text, { flag: 'wx', mode: 0o644 });
  try {
    for (let number = 1; number <= sameNameMost; number++) {
      const own = number === 1 ? name : name.replace(/\.yaml$/, `-${number}.yaml`);
      const file = path.join(policies, own);
      try {
        linkSync(aside, file);
        return file;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
    }
  } finally {
    rmSync(aside, { force: true });
  }
  throw new RotatedError('refused', `${policies} holds ${sameNameMost} files called ${name}.`, {
    next: 'Tidy it up, then run this again.',
  });
}
