/** Searches bytes for canaries: every position, every form, one pass. */
import { type Canary, needlesOf, type Needle, windowLength } from './canaries.ts';

export interface Hit {
  readonly canary: string;
  readonly form: string;
  /** The file, stream or process it stood in. */
  readonly where: string;
  /** Of the first of them, in bytes. */
  readonly offset: number;
  readonly times: number;
}

/** `declared`: sources whose value may stand there, since the policy says so. */
export type Scan = (where: string, bytes: Buffer, declared?: readonly string[]) => readonly Hit[];

/** Nearly every position is dismissed by its first three bytes. */
const prefixBytes = 3;

export function createScanner(canaries: readonly Canary[]): Scan {
  const begins = new Uint8Array(1 << (8 * prefixBytes));
  const byBegin = new Map<string, Needle[]>();
  for (const needle of canaries.flatMap(needlesOf)) {
    begins[prefixAt(needle.bytes, 0)] = 1;
    const key = needle.bytes.toString('latin1', 0, windowLength);
    const others = byBegin.get(key);
    if (others === undefined) byBegin.set(key, [needle]);
    else others.push(needle);
  }
  return (where, bytes, declared = []) => {
    const hits = new Map<string, Hit>();
    for (let at = 0; at + windowLength <= bytes.length; at++) {
      if (begins[prefixAt(bytes, at)] === 0) continue;
      const candidates = byBegin.get(bytes.toString('latin1', at, at + windowLength));
      for (const { source, form, bytes: sought } of candidates ?? []) {
        if (declared.includes(source)) continue;
        if (!bytes.subarray(at, at + sought.length).equals(sought)) continue;
        const key = JSON.stringify([source, form]);
        const { offset = at, times = 0 } = hits.get(key) ?? {};
        hits.set(key, { canary: source, form, where, offset, times: times + 1 });
      }
    }
    return [...hits.values()];
  };
}

function prefixAt(bytes: Buffer, at: number): number {
  return ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
}
