/** Whether systemd takes the unit file, and how exposed it says the service would be. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';

export interface UnitResult {
  /** `systemd-analyze verify` has nothing to say. */
  readonly verified: boolean;
  readonly complaints: readonly string[];
  /** 0 (locked in) to 10 (anything goes). */
  readonly exposure: number | null;
}

/** The rating systemd calls OK ends at 5; what this unit leaves open on purpose stands in its comments and makes 1.4. */
export const exposureMax = 2;

export async function checkUnit(unitFile: string): Promise<UnitResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-unit-'));
  try {
    // verify wants every program to exist: this machine's Node may stand elsewhere.
    const text = (await readFile(unitFile, 'utf8')).replaceAll('/usr/bin/node', process.execPath);
    const copy = path.join(folder, path.basename(unitFile));
    await writeFile(copy, text);
    const analyze = (...args: readonly string[]) =>
      execa('systemd-analyze', [...args, copy], { reject: false, stdin: 'ignore', all: true });
    const verify = await analyze('verify', '--no-pager', '--man=no');
    const security = await analyze('security', '--no-pager', '--offline=true');
    const rating = /Overall exposure level for \S+: (\d+(?:\.\d+)?)/.exec(security.all)?.[1];
    const complaints = verify.all.split('\n').filter((line) => line.trim() !== '');
    return {
      verified: verify.exitCode === 0 && complaints.length === 0,
      complaints,
      exposure: rating === undefined ? null : Number(rating),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
