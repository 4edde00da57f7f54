/** The values that calls to an HTTP server carry: the newest for each new call, and which older ones are still out. */
import { asRotatedError } from '../../errors.ts';
import type { Secret } from '../../secret/secret.ts';
import { type Entry, type Launch, renderLaunch } from '../entry.ts';
import { type ByteRedactor, createByteRedactor } from '../redaction.ts';
import type { InstanceStatus, Resolved, ValueSource } from '../source.ts';
import type { Around } from './backend.ts';
import { tryCanary } from './canary.ts';
import { oldest } from './shared-source.ts';

type Remote = Extract<Launch, { kind: 'remote' }>;

/** The values of one instant, in place. Plaintext: never log it. */
export interface Held {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly resolved: Resolved;
}

export interface Lease {
  readonly held: Held;
  /** The call is over. Once. */
  release(): void;
  /** Called where an emergency cuts the call. */
  onCut: (() => void) | null;
  readonly isCut: () => boolean;
}

export interface HeldValues {
  readonly redactor: ByteRedactor;
  /** Throws what the source throws, and `not-found`, `usage` where the entry cannot be filled in. */
  lease(): Promise<Lease>;
  /** The newest as it stands, where there is one. */
  newest(): Held | null;
  /** Called after each change with new values at hand. */
  onChange(listener: () => void): () => void;
  close(): Promise<void>;
}

interface Batch {
  readonly held: Held;
  readonly values: readonly Secret[];
  readonly calls: Set<Lease>;
  isCut: boolean;
  /** Ends the wait for an emergency's cut. */
  readonly drained: AbortController;
}

/** A failed resolve is tried again after so long, twice as long each time up to the second. */
const retryFirstMs = 500;
const retryMostMs = 30_000;

export function holdValues(entry: Entry, source: ValueSource, around: Around): HeldValues {
  const { clock, log } = around;
  const launch = entry.launch as Remote;
  const closing = new AbortController();
  const redactor = createByteRedactor();
  const listeners = new Set<() => void>();
  const live = new Set<Batch>();
  let newest: Batch | null = null;
  let before: Batch | null = null;
  let first: Promise<Batch> | null = null;
  let problem: InstanceStatus['problem'] = null;
  let changing: Promise<void> | null = null;
  let askedAgain = false;
  let isUrgent = false;

  function adopt(resolved: Resolved): Batch {
    const filled = renderLaunch(launch, resolved.values) as Remote;
    const batch: Batch = {
      held: { url: new URL(filled.url), headers: filled.headers, resolved },
      values: [...resolved.values.values()],
      calls: new Set(),
      isCut: false,
      drained: new AbortController(),
    };
    before = newest;
    newest = batch;
    live.add(batch);
    if (before?.calls.size === 0) live.delete(before);
    useForRedaction();
    return batch;
  }

  function useForRedaction(): void {
    const all = new Set([...live, ...(before === null ? [] : [before])]);
    redactor.use([...all].flatMap(({ values }) => values));
  }

  function report(): void {
    source.report({
      state: newest === null ? 'idle' : 'serving',
      generations: oldest([...live].map(({ held }) => held.resolved.generations)),
      problem,
    });
  }

  async function change(): Promise<void> {
    for (
      let waitMs = retryFirstMs;
      !closing.signal.aborted;
      waitMs = Math.min(waitMs * 2, retryMostMs)
    ) {
      askedAgain = false;
      const urgent = isUrgent;
      isUrgent = false;
      try {
        const resolved = await source.resolve(closing.signal);
        const isNew = newest === null || !isSame(newest.held.resolved, resolved);
        if (isNew) await tryCanary(entry, launch, resolved, source.settings(), closing.signal);
        problem = null;
        if (isNew) {
          adopt(resolved);
          log.info({ server: entry.name, generations: resolved.generations }, 'new credentials');
          for (const listener of listeners) listener();
        }
        if (urgent) cutLater();
        report();
        if (!askedAgain) return;
        waitMs = retryFirstMs;
      } catch (thrown) {
        if (closing.signal.aborted) return;
        isUrgent ||= urgent;
        const { code, message } = asRotatedError(thrown, 'none');
        problem = { code, message };
        report();
        log.warn({ server: entry.name, code }, 'new credentials cannot be had');
        await clock.sleep(waitMs, closing.signal).catch(() => undefined);
      }
    }
  }

  /** Calls that carry a leaked credential get the time to drain, then they end. */
  function cutLater(): void {
    const { emergency, drainMs } = source.settings();
    if (emergency !== 'cut') return;
    for (const batch of live) {
      if (batch === newest || batch.calls.size === 0) continue;
      const until = AbortSignal.any([batch.drained.signal, closing.signal]);
      void clock.sleep(drainMs, until).then(
        () => {
          log.warn({ server: entry.name, calls: batch.calls.size }, 'an emergency cuts calls');
          batch.isCut = true;
          for (const lease of batch.calls) lease.onCut?.();
        },
        () => undefined,
      );
    }
  }

  source.listen(({ urgent }) => {
    if (newest === null && first === null) return;
    askedAgain = true;
    isUrgent ||= urgent;
    changing ??= change().finally(() => {
      changing = null;
    });
  });

  return {
    redactor,
    newest: () => newest?.held ?? null,
    async lease() {
      const batch = newest ?? (await firstBatch());
      const lease: Lease = {
        held: batch.held,
        onCut: null,
        isCut: () => batch.isCut,
        release() {
          if (!batch.calls.delete(lease)) return;
          if (batch.calls.size > 0 || batch === newest || !live.delete(batch)) return;
          batch.drained.abort();
          useForRedaction();
          report();
        },
      };
      batch.calls.add(lease);
      return lease;
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      closing.abort();
      await changing;
      await source.close();
    },
  };

  async function firstBatch(): Promise<Batch> {
    first ??= source
      .resolve(AbortSignal.any([closing.signal, AbortSignal.timeout(firstWithinMs)]))
      .then((resolved) => {
        const batch = newest ?? adopt(resolved);
        report();
        return batch;
      })
      .finally(() => {
        first = null;
      });
    const batch = await first;
    return newest ?? batch;
  }
}

/** So long the first call waits for its credentials. */
const firstWithinMs = 20_000;

function isSame(a: Resolved, b: Resolved): boolean {
  if (JSON.stringify(a.generations) !== JSON.stringify(b.generations)) return false;
  if (a.values.size !== b.values.size) return false;
  return [...a.values].every(
    ([reference, value]) => b.values.get(reference)?.equals(value) === true,
  );
}
