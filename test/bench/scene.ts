/** Where a benchmark works: a folder on a real disk, policies by the thousand, processes that end with it. */
import { statfsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface Scene extends AsyncDisposable {
  readonly root: string;
  /** `--state`, `--policies`, `--key` of the deployment `name` in this scene. */
  places(name: string): Places;
}

export interface Places {
  readonly state: string;
  readonly policies: string;
  readonly key: string;
  readonly args: readonly string[];
}

/** A sync in memory costs nothing and would flatter everything. From linux/magic.h. */
const tmpfsMagic = 0x01021994;

export async function openScene(): Promise<Scene> {
  const parent = [tmpdir(), process.cwd()].find((one) => statfsSync(one).type !== tmpfsMagic);
  if (parent === undefined) throw new Error('Neither the temporary nor this folder is on a disk.');
  const root = await mkdtemp(path.join(parent, 'rotated-bench-'));
  return {
    root,
    places(name) {
      const [state, policies, key] = ['state', 'schedules', 'key'].map((part) =>
        path.join(root, name, part),
      ) as [string, string, string];
      const args = ['--state', state, '--policies', policies, '--key', key];
      return { state, policies, key, args };
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

export interface PolicyWish {
  /** From `schedule:` on, indented by nothing. */
  readonly schedule: string;
  readonly prefix?: string;
  readonly perFile?: number;
}

/** Names are `PREFIX-0` and so on. */
export async function writePolicies(
  folder: string,
  count: number,
  { schedule, prefix = 'secret', perFile = 100 }: PolicyWish,
): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  for (let from = 0; from < count; from += perFile) {
    const names = Array.from(
      { length: Math.min(perFile, count - from) },
      (_, index) => from + index,
    );
    const text = names.map((index) => policyText(`${prefix}-${index}`, schedule)).join('');
    const file = path.join(folder, `${prefix}-${String(from).padStart(6, '0')}.yaml`);
    await writeFile(file, `secrets:\n${text}`, { mode: 0o600 });
  }
}

/** As long as people write them: tags, a window, a freeze, settings of its own. */
function policyText(name: string, schedule: string): string {
  return `  ${name}:
    tags: [benchmark, team-${name.length}]
    provider: { use: generated, kind: random }
    backend: { ref: "local://bench/${name}", fields: { API_KEY: value } }
    schedule: ${schedule}
    grace: 0s
    verify: provider
    adoption: { timeout: 15m, then: wait }
    failure: { attempts: 5, pauseAfter: 3 }
    emergency: { mode: continuity, deadline: 5m }
`;
}

export const busySchedule =
  '{ every: 30d, timezone: Europe/Berlin, splay: 10m, window: { days: [sat, sun], from: "01:00", to: "06:00" }, freeze: [{ from: "2031-12-20", to: "2032-01-03", reason: "year end" }] }';
