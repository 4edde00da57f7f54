/** What a suite does where a server it needs is not installed: say so and skip, or fail where REQUIRE_SERVERS=all. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';

/** Where a program stands on the PATH; null where it does not. */
export function programPath(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(path.delimiter)) {
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Look in the next folder.
    }
  }
  return null;
}

/** null: all is there. Else the reason to print and to skip by. Throws where servers are required. */
export function missingServer(program: string, install: string): string | null {
  if (programPath(program) !== null) return null;
  const reason = `${program} is not installed (${install})`;
  if (process.env['REQUIRE_SERVERS'] === 'all')
    throw new Error(`REQUIRE_SERVERS=all, but ${reason}`);
  return reason;
}

/** The same for what no package brings: a platform, an account. */
export function missingCondition(isMet: boolean, what: string): string | null {
  if (isMet) return null;
  const reason = `it needs ${what}`;
  if (process.env['REQUIRE_SERVERS'] === 'all')
    throw new Error(`REQUIRE_SERVERS=all, but ${reason}`);
  process.stderr.write(`skipped: ${reason}\n`);
  return reason;
}
