/** Reading one policy file safely: what is checked is what is read, and nothing that is no plain text gets through. */
import { isUtf8 } from 'node:buffer';
import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { policyFileBytesMax } from './document.ts';
import type { PolicyProblem } from './policy.ts';
import { type Account, mendOf, unsafeRights } from './safety.ts';

/**
 * The bytes, or why they are not taken. `root`: the real path of the policy folder, which a symbolic link must not leave.
 * Synchronous: for thousands of small files the calls cost less than the promises would.
 */
export function readPolicyFile(
  file: string,
  root: string,
  account: Account | null,
): { readonly bytes: Buffer } | { readonly problem: PolicyProblem } {
  const refuse = (code: string, message: string, example: string | null = null) => ({
    problem: placed(file, code, message, example),
  });
  let handle: number;
  try {
    const real = realpathSync(file);
    if (!`${real}${path.sep}`.startsWith(root === path.sep ? root : `${root}${path.sep}`)) {
      return refuse(
        'policy-unsafe',
        'This is a symbolic link that leaves the folder: who may write its target is not looked at. Copy the file here.',
      );
    }
    // Not blocking: a pipe in the folder would hold up all policies.
    handle = openSync(real, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    return refuse('unreadable', `The file cannot be opened (${systemCode(error)}).`);
  }
  try {
    const stats = fstatSync(handle);
    if (!stats.isFile()) {
      return refuse(
        'not-a-file',
        stats.isDirectory()
          ? 'This is a directory, and a policy file is expected.'
          : 'This is no plain file.',
      );
    }
    const why = unsafeRights(stats, account);
    if (why !== null) {
      return refuse(
        'policy-unsafe',
        `The file ${why}, who could make the daemon run any command.`,
        mendOf(file, why),
      );
    }
    if (stats.size > policyFileBytesMax) {
      return refuse(
        'too-large',
        `The file has more than ${policyFileBytesMax >> 20} MiB: split it.`,
      );
    }
    const bytes = readFileSync(handle);
    const notText = notUtf8(file, bytes);
    return notText === null ? { bytes } : { problem: notText };
  } catch (error) {
    return refuse('unreadable', `The file cannot be read (${systemCode(error)}).`);
  } finally {
    closeSync(handle);
  }
}

/** A problem with the file as a whole. */
export function placed(
  file: string,
  code: string,
  message: string,
  example: string | null = null,
): PolicyProblem {
  return { code, file, line: 1, column: 1, path: '', message, seen: null, example };
}

export function systemCode(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'unknown error';
}

function notUtf8(file: string, bytes: Buffer): PolicyProblem | null {
  if (isUtf8(bytes)) return null;
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    return placed(file, 'encoding', 'The file is UTF-16: save it as UTF-8.');
  }
  let start = 0;
  for (let line = 1; start <= bytes.length; line++) {
    const found = bytes.indexOf(0x0a, start);
    const end = found === -1 ? bytes.length : found;
    const row = bytes.subarray(start, end);
    if (!isUtf8(row)) {
      const column = row.toString('utf8').indexOf('\uFFFD') + 1;
      return {
        ...placed(file, 'encoding', 'Here is a byte that is not UTF-8: save the file as UTF-8.'),
        line,
        column,
      };
    }
    start = end + 1;
  }
  return placed(file, 'encoding', 'The file is not UTF-8.');
}
