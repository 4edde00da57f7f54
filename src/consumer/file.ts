/** The file consumer: renders the values into a file that is never seen half-written, then perhaps signals its reader. */
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { asRotatedError, RotatedError } from '../errors.ts';
import type { ConsumerSpec } from '../policy/policy.ts';
import type { Change } from './consumer.ts';
import { checkDestination, replaceFile } from './destination.ts';
import { consumerFailed } from './failures.ts';
import { systemCode } from './guards.ts';
import { type Generation, render } from './render.ts';
import { createSignaller } from './signal.ts';
import type { ConsumerContext, Target } from './target.ts';

/** How often a render that was overtaken by a newer generation is done again before the caller hears of it. */
const rendersMost = 5;
const templateBytesMax = 1_048_576;

type FileSpec = Extract<ConsumerSpec, { kind: 'file' }>;

/** Throws `policy-invalid` where the format cannot hold what the role needs. */
export function fileTarget(spec: FileSpec, context: ConsumerContext): Target {
  if (spec.role === 'verifier' && spec.format !== 'json') {
    throw new RotatedError(
      'policy-invalid',
      `${spec.path}: a verifier has to accept several generations at once, which ${spec.format} cannot hold.`,
      { next: 'Write `format: json`.' },
    );
  }
  const path = resolve(context.directory, spec.path);
  const place = `The file ${path}`;
  const then = spec.then === null ? null : createSignaller(spec.then, context);
  let last: Promise<unknown> = Promise.resolve();

  /** Until what was written is what the backend serves: a process that slept in between must not bring an older value back. */
  async function renderNewest(change: Change, signal: AbortSignal): Promise<void> {
    const template = spec.template === null ? null : await readTemplate(spec.template, context);
    let live = await readLive(change, signal);
    for (let renders = 1; ; renders++) {
      const text = render({
        secret: change.secret,
        role: spec.role,
        format: spec.format,
        template,
        live,
      });
      await replaceFile({ path, place, text, mode: spec.mode, random: context.random, signal });
      const now = await readLive(change, signal);
      if (newestOf(now) === newestOf(live) && now.length === live.length) return;
      if (renders >= rendersMost) {
        throw consumerFailed(
          place,
          'was overtaken again and again',
          'applied',
          'Nothing: it is tried again.',
        );
      }
      live = now;
    }
  }

  async function readLive(change: Change, signal: AbortSignal) {
    const [first, ...others] = await context.read.read(change.secret, change.stage, signal);
    if (first === undefined) {
      throw new RotatedError('not-found', `The backend has no value for ${change.secret}.`, {
        secret: change.secret,
        next: `Run: rotate status ${change.secret}.`,
      });
    }
    const live: [Generation, ...Generation[]] = [first, ...others];
    for (const each of live) context.redactor.add(each.fields);
    if (newestOf(live) < change.generation) {
      throw new RotatedError(
        'consumer-failed',
        `${place} was not written: the backend serves generation ${newestOf(live)} of ${change.secret}, not ${change.generation}.`,
        { secret: change.secret, next: 'Nothing: it is tried again.' },
      );
    }
    return live;
  }

  async function reload(changes: readonly Change[], signal: AbortSignal): Promise<void> {
    const change = onlySecret(changes, place, path);
    if (change === null) return;
    await renderNewest(change, signal);
    if (then === null) return;
    try {
      await then.send(signal);
    } catch (error) {
      // The file is there: repeating finds it unchanged and signals again.
      const failure = asRotatedError(error, 'unknown', change.secret);
      if (failure.code !== 'consumer-failed') throw failure;
      throw consumerFailed(
        place,
        'was written, but its reader was not told',
        'applied',
        failure.next,
        failure,
      );
    }
  }

  return {
    id: `file:${path}`,
    async probe(signal) {
      await checkDestination(path, place);
      if (spec.template !== null) await readTemplate(spec.template, context);
      if (then === null) return;
      try {
        await then.find(signal);
      } catch (error) {
        // A reader that does not run yet may be waiting for this very file. One that is not the one meant is a mistake now.
        const failure = asRotatedError(error, 'none');
        if (failure.code !== 'consumer-failed') throw failure;
      }
    },
    reload(changes, signal) {
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(spec.timeoutMs)]);
      // One render at a time: a second one clears away what an earlier one left behind.
      const turn = last.then(() => {
        deadline.throwIfAborted();
        return reload(changes, deadline);
      });
      last = turn.catch(() => undefined);
      return turn;
    },
  };
}

function newestOf(live: readonly Generation[]): number {
  return live.at(-1)?.generation ?? 0;
}

/** A file holds one secret: of several changes the last says what it must hold now. */
function onlySecret(changes: readonly Change[], place: string, path: string): Change | null {
  const names = new Set(changes.map((change) => change.secret));
  if (names.size > 1) {
    throw new RotatedError(
      'policy-invalid',
      `${place} is named by several policies: ${[...names].join(', ')}.`,
      { next: `Give each policy a file of its own instead of ${path}.` },
    );
  }
  return changes.at(-1) ?? null;
}

async function readTemplate(given: string, context: ConsumerContext): Promise<string> {
  const path = resolve(context.directory, given);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const code = systemCode(error) ?? 'unreadable';
    throw new RotatedError('not-found', `The template ${path} cannot be read (${code}).`, {
      next: `Create ${path}, or correct the path in the policy.`,
    });
  }
  if (text.length <= templateBytesMax) return text;
  throw new RotatedError(
    'policy-invalid',
    `The template ${path} is longer than ${templateBytesMax} bytes.`,
    { next: 'Name the template, not some other file.' },
  );
}
