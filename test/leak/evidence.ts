/** Everything that the check looks at afterwards: what was printed, what lay on disk, how processes were started. */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export interface Item {
  readonly where: string;
  readonly bytes: Buffer;
  /** Sources whose value may stand here. */
  readonly declared: readonly string[];
}

export interface Evidence {
  readonly items: readonly Item[];
  text(where: string, text: string, declared?: readonly string[]): void;
  /** Every file below it as it is now; `declared` by name. */
  folder(where: string, directory: string, declared?: Readonly<Record<string, string[]>>): void;
}

export function createEvidence(): Evidence {
  const items: Item[] = [];
  return {
    items,
    text: (where, text, declared = []) => {
      items.push({ where, bytes: Buffer.from(text), declared });
    },
    folder: (where, directory, declared = {}) => {
      for (const name of readdirSync(directory, { recursive: true }) as string[]) {
        const bytes = contentOf(path.join(directory, name));
        // The name of a file may give something away as well.
        items.push({
          where: `the name of a file in ${where}`,
          bytes: Buffer.from(name),
          declared: [],
        });
        if (bytes === null) continue;
        items.push({ where: `${where}: ${name}`, bytes, declared: declared[name] ?? [] });
      }
    },
  };
}

/** null for what is no plain file (a socket), or went while the folder was read (a temporary file). */
function contentOf(file: string): Buffer | null {
  try {
    return lstatSync(file).isFile() ? readFileSync(file) : null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
