/** Follows rotations to where nothing more will come soon, showing each phase on stderr. */
import type { DebtView, Progress, RotationView, Service, Started } from '../rotation/service.ts';
import type { Call } from './command.ts';
import { type Exit, exitOfStarted } from './exit.ts';
import type { Io } from './io.ts';
import { plural, timeOfDay } from './print.ts';

/** What is owed, for people, with the command that settles it where it takes a person. */
export function debtText(debt: DebtView): string {
  const { id, secret, kind, ref, attempts, lastError, needsPerson, instructions } = debt;
  if (needsPerson) {
    const what = instructions ?? lastError ?? `${kind} ${ref ?? ''}`.trimEnd();
    return `owes, by a person: ${what} Next: once that is done, rotate confirm ${secret} --debt ${id}`;
  }
  const why = lastError === null ? '' : `, ${lastError}`;
  return `owes: ${kind} ${ref ?? ''} (${plural(attempts, 'attempt')}${why})`;
}

export interface Outcome {
  readonly secret: string;
  readonly started: Started;
  /** null where nothing was started. */
  readonly view: RotationView | null;
  readonly final: Progress['final'];
  readonly exit: Exit;
  /** What its secrets owe now. */
  readonly debts: readonly DebtView[];
}

export interface FollowOptions {
  /** A wait longer than this is not waited for. */
  readonly patienceMs: number;
  /** What a rotation that still waits counts as. */
  readonly waitingIs: Exit;
  /** The end that was asked for: a roll back that rolled back did not fail. `retired` where absent. */
  readonly wanted?: 'retired' | 'rolled-back' | 'abandoned';
}

/** Something moved or not: a person sees a sign of life at least so often. */
const quietMaxMs = 5_000;

/** A debt that is tried again later than this is shown as owed, not waited for. */
const soonMs = 2_000;
const debtLookMs = 50;

export async function follow(
  { io }: Call,
  service: Service,
  started: readonly Started[],
  { patienceMs, waitingIs, wanted = 'retired' }: FollowOptions,
): Promise<readonly Outcome[]> {
  for (const one of started) {
    if (one.outcome !== 'started' && one.outcome !== 'done') io.err(startedText(one));
  }
  const ids = [...new Set(started.map((one) => one.rotation).filter((id) => id !== null))];
  const finals = new Map<string, Progress['final']>();
  const phases = new Map<string, string>();
  if (ids.length > 0 && !io.signal.aborted) {
    const quiet = signOfLife(io);
    try {
      for await (const progress of service.watch(ids, patienceMs, io.signal)) {
        quiet.heard(progress);
        finals.set(progress.rotation, progress.final);
        // What it waits for, where that is long, is said at the end.
        const isSame = phases.get(progress.rotation) === progress.phase;
        if (!isSame || progress.final !== 'waiting') io.err(progressText(progress));
        phases.set(progress.rotation, progress.phase);
      }
    } catch (error) {
      if (!io.signal.aborted) throw error;
    } finally {
      quiet.stop();
    }
  }
  const views = new Map<string, RotationView | null>();
  for (const id of ids) views.set(id, await service.rotation(id));
  const secrets = [...views.values()].flatMap((view) => view?.secrets ?? []);
  const owed = await debtsOf(io, service, secrets, patienceMs);
  return started.map((one) => {
    const view = one.rotation === null ? null : (views.get(one.rotation) ?? null);
    const final = one.rotation === null ? null : (finals.get(one.rotation) ?? null);
    const exit = view === null ? exitOfStarted(one) : exitOfRotation(view, owed, waitingIs, wanted);
    const debts = (view?.secrets ?? []).flatMap((secret) => owed.get(secret)?.debts ?? []);
    return { secret: one.secret, started: one, view, final, exit, debts };
  });
}

interface Owed {
  readonly person: boolean;
  readonly rotations: ReadonlySet<string>;
  readonly debts: readonly DebtView[];
}

/** A rotation ends and leaves its debts: those that can be paid at once are waited for, so that what is said is true. */
async function debtsOf(
  io: Io,
  service: Service,
  names: readonly string[],
  patienceMs: number,
): Promise<ReadonlyMap<string, Owed>> {
  if (names.length === 0) return new Map();
  const selector = { names, tags: [], providers: [], consumers: [], all: false };
  const untilMs = io.clock.monotonicMs() + patienceMs;
  for (;;) {
    const { secrets } = await service.status(selector);
    const isSoon = secrets.some(({ debts }) => debts.some(isPaidSoon));
    if (isSoon && io.clock.monotonicMs() < untilMs && !io.signal.aborted) {
      await io.clock.sleep(debtLookMs, io.signal).catch(() => undefined);
      continue;
    }
    return new Map(
      secrets.map(({ secret, debts }) => [
        secret,
        {
          person: debts.some((debt) => debt.needsPerson),
          rotations: new Set(debts.map((debt) => debt.rotation)),
          debts,
        },
      ]),
    );
  }
}

function isPaidSoon({ needsPerson, nextInMs }: DebtView): boolean {
  return !needsPerson && (nextInMs ?? 0) < soonMs;
}

function exitOfRotation(
  view: RotationView,
  owed: ReadonlyMap<string, Owed>,
  waitingIs: Exit,
  wanted: string,
): Exit {
  if (view.parked !== null) return 'person';
  if (view.endedAt !== null && view.phase !== wanted) return 'failed';
  const members = view.secrets.map((secret) => owed.get(secret));
  if (members.some((one) => one?.person === true)) return 'person';
  if (view.endedAt === null) return waitingIs;
  return members.some((one) => one?.rotations.has(view.id) === true) ? 'debts' : 'ok';
}

/** The same phase is shown once: what changes is why it waits. */
function progressText(progress: Progress): string {
  const who = progress.secrets.join(', ');
  return `${timeOfDay(progress.at)} ${who}: ${progress.phase}: ${progress.message}\n`;
}

export function startedText(started: Started): string {
  const next = started.next === null ? '' : `Next: ${started.next}\n`;
  const code = started.code === null ? '' : ` (${started.code})`;
  return `${started.secret}: ${started.message}${code}\n${next}`;
}

function signOfLife(io: Io): { heard(progress: Progress): void; stop(): void } {
  let last: Progress | null = null;
  const timer = setInterval(() => {
    const what = last === null ? 'waiting' : `${last.secrets.join(', ')}: still ${last.phase}`;
    io.err(`… ${what}\n`);
  }, quietMaxMs);
  return {
    heard: (progress) => {
      last = progress;
      timer.refresh();
    },
    stop: () => clearInterval(timer),
  };
}
