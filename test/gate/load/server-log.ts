/** What the servers themselves wrote down: which process got which call, under which credential. Both ends of that file. */
import { closeSync, existsSync, openSync, readFileSync, writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** Names the file to a test server. */
export const logVariable = 'CALL_LOG';

const writtenWithinMs = 5_000;

export interface CallLog {
  call(request: Logged): void;
  /** `null`: a cancellation of something that this process does not have. */
  cancelled(id: string | null): void;
  close(): void;
}

/**
 * For a server. What one turn of the event loop brought goes out in one write to a file in append mode: lines of several
 * processes do not mix, and at most the last turn is missing after a SIGKILL.
 */
export function openCallLog(file: string | undefined, key: string): CallLog {
  if (file === undefined) return { call: () => {}, cancelled: () => {}, close: () => {} };
  const target = openSync(file, 'a');
  const pid = process.pid;
  let pending = '';
  const flush = () => {
    if (pending === '') return;
    const text = pending;
    pending = '';
    writeSync(target, text);
  };
  const add = (line: string) => {
    if (pending === '') setImmediate(flush);
    pending += line;
  };
  process.on('exit', flush);
  add(`S ${pid} ${key} ${nowMs()}\n`);
  flush();
  return {
    call: ({ id, method, round = 1, key: used = key }) =>
      add(`C ${id} ${pid} ${used} ${method}:${round} ${nowMs()}\n`),
    cancelled: (id) => add(`X ${id ?? '?'} ${pid}\n`),
    close: () => {
      flush();
      closeSync(target);
    },
  };
}

export interface Logged {
  readonly id: string;
  /** A gate may put a question of its own under the `_meta` of a call: the method tells it from a second call. */
  readonly method: string;
  /** 2: the same call again, with what the server had asked for. */
  readonly round?: number;
  /** The credential of this request, where it is not the process's own. */
  readonly key?: string;
}

/** One clock for all processes of the machine. */
export function nowMs(): number {
  return Number(process.hrtime.bigint() / 1_000n) / 1_000;
}

export interface Use {
  readonly pid: number;
  readonly key: string;
  /** `tools/call:1` */
  readonly what: string;
  readonly atMs: number;
}

export interface Start {
  readonly pid: number;
  readonly key: string;
  readonly atMs: number;
}

export interface ServerLog {
  readonly starts: readonly Start[];
  /** How many calls there are in it. */
  readonly size: number;
  usesOf(callId: string): readonly Use[];
  uses(): IterableIterator<readonly [callId: string, uses: readonly Use[]]>;
  /** Its cancellation arrived at the process that had got it. */
  cancelReached(callId: string): boolean;
}

/** Empty where no server has started yet. */
export function readServerLog(file: string): ServerLog {
  return parseServerLog(existsSync(file) ? readFileSync(file, 'utf8') : '');
}

export interface Owed {
  readonly calls: readonly string[];
  /** Their cancellation, where a server had got them. */
  readonly cancelled: readonly string[];
}

/** Servers write things down a turn late: waits until all that is owed is there, for a while. */
export async function completeServerLog(file: string, owed: Owed): Promise<ServerLog> {
  const endAtMs = nowMs() + writtenWithinMs;
  for (;;) {
    const log = readServerLog(file);
    const isComplete =
      owed.calls.every((id) => log.usesOf(id).length > 0) &&
      owed.cancelled.every((id) => log.usesOf(id).length === 0 || log.cancelReached(id));
    if (isComplete || nowMs() > endAtMs) return log;
    await delay(100);
  }
}

export function parseServerLog(text: string): ServerLog {
  const uses = new Map<string, Use[]>();
  const cancels = new Map<string, number[]>();
  const starts: Start[] = [];
  for (const line of text.split('\n')) {
    const [what, first, second, third, fourth, fifth] = line.split(' ');
    if (what === 'C' && first !== undefined) {
      const use = {
        pid: Number(second),
        key: third ?? '',
        what: fourth ?? '',
        atMs: Number(fifth),
      };
      const list = uses.get(first);
      if (list === undefined) uses.set(first, [use]);
      else list.push(use);
    } else if (what === 'X' && first !== undefined) {
      cancels.set(first, [...(cancels.get(first) ?? []), Number(second)]);
    } else if (what === 'S') {
      starts.push({ pid: Number(first), key: second ?? '', atMs: Number(third) });
    }
  }
  return {
    starts,
    size: uses.size,
    usesOf: (id) => uses.get(id) ?? [],
    uses: () => uses.entries(),
    cancelReached: (id) => {
      const owners = (uses.get(id) ?? []).map(({ pid }) => pid);
      return (cancels.get(id) ?? []).some((pid) => owners.includes(pid));
    },
  };
}
