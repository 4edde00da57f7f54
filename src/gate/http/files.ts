/** The files of a gate: its server file, read only where nobody else can change it, and where its sessions are kept. */
import { accessSync, constants, mkdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { controlSocketPath } from '../../control/socket-path.ts';
import { RotatedError } from '../../errors.ts';
import { mendOf, ownAccount, unsafeRights } from '../../policy/safety.ts';
import { readServers, type ServerEntry } from '../servers-file.ts';

/** A client's whole configuration. */
const fileBytesMost = 16 << 20;

/** Throws `policy-unsafe` where others could make the gate run any command, `policy-invalid`, `not-found`. */
export function readServersFile(
  file: string,
  env: Readonly<Record<string, string | undefined>>,
): readonly ServerEntry[] {
  let text: string;
  try {
    const stats = statSync(file);
    const why = unsafeRights(stats, ownAccount());
    if (why !== null) {
      const message = `The server file ${file} ${why}, who could make the gate run any command.`;
      throw new RotatedError('policy-unsafe', message, { next: mendOf(file, why) });
    }
    if (stats.size > fileBytesMost) {
      throw new RotatedError('policy-invalid', `The server file ${file} is too long.`);
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof RotatedError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new RotatedError('not-found', `The server file ${file} cannot be read (${code}).`, {
      next: "Name a client's config, or a file like it: --servers FILE. docs/gate.md shows one.",
    });
  }
  return readServers(text, { file, env });
}

/** In the private folder beside the state's sockets; null where this account cannot write there. */
export function sessionsFolder(state: string): string | null {
  const folder = path.join(path.dirname(controlSocketPath(state)), 'gate-sessions');
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    return null;
  }
}
