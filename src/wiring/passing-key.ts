/** What a look needs before there is any state: a memory, and the deployment's own key where it is there, else a passing one. */
import type { Random } from '../clock.ts';
import { isRotatedError } from '../errors.ts';
import { localKey, keyBytes } from '../secret/key-encryption-key.ts';
import type { KeyRing, KeySource } from '../secret/key-sources.ts';

export { memoryState as noState } from '../journal/sqlite.ts';

export async function passingKey(source: KeySource, random: Random): Promise<KeySource> {
  let ring: KeyRing;
  try {
    ring = await source.load();
  } catch (error) {
    // Not there yet: the first start makes it. Unsafe or unreadable is a finding.
    if (!isRotatedError(error, 'key-missing')) throw error;
    const key = localKey(random.bytes(keyBytes), random);
    ring = { anchor: key, current: key, all: [key], warnings: [] };
  }
  return { what: source.what, load: async () => ring };
}
