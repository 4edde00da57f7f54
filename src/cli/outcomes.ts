/** What became of the rotations that a command started, printed for people or as JSON; and how long it waits for them. */
import type { Command } from 'commander';
import { RotatedError } from '../errors.ts';
import { parseDuration } from '../policy/duration.ts';
import type { Call } from './command.ts';
import { worst } from './exit.ts';
import { debtText, type Outcome } from './follow.ts';
import { duration, stepsApart } from './print.ts';
import { whyText } from './rotation-text.ts';

const waitDefault = '30s';

export function addWaitOption(command: Command, before = waitDefault): void {
  command.option(
    '--wait <duration>',
    'follow it through waits up to so long; 0s: do not follow',
    before,
  );
}

export function waitOf({ options }: Call): number {
  const { wait } = options;
  const text = typeof wait === 'string' ? wait : waitDefault;
  const ms = parseDuration(text);
  if (ms !== null) return ms;
  throw new RotatedError('usage', `${JSON.stringify(text)} is no duration.`, {
    next: 'Write it like --wait 30s, 10m or 1h30m.',
  });
}

export function printOutcomes(call: Call, outcomes: readonly Outcome[], note: string | null): void {
  const { io, options } = call;
  if (options.json === true) {
    const secrets = outcomes.map(({ secret, started, view, final, exit }) => ({
      secret,
      exit,
      outcome: started.outcome,
      message: started.message,
      code: started.code,
      next: started.next,
      final,
      rotation: view,
    }));
    const exit = worst(outcomes.map((one) => one.exit));
    io.out(`${JSON.stringify({ ok: exit === 'ok', exit, secrets, note })}\n`);
    return;
  }
  for (const outcome of outcomes) io.out(outcomeText(outcome));
  if (note !== null) io.err(`${note}\n`);
}

function outcomeText({ secret, started, view, debts }: Outcome): string {
  if (view === null) return `${secret}: ${started.message}\n`;
  const lines = [`${secret}: ${view.phase}, ${duration(tookMs(view))} after the start`];
  if (view.parked !== null) {
    lines.push(`  waits for a person: ${view.parked.message}`, `  Next: ${view.parked.next}`);
  } else if (view.endedAt === null) {
    const until = view.nextInMs === null ? '' : `, ${duration(view.nextInMs)} more`;
    lines.push(`  goes on by itself: ${view.waitsFor ?? 'the next step'}${until}`);
  }
  if (view.lastError !== null) {
    lines.push(`  ${whyText(view.lastError)}`);
  }
  for (const consumer of view.unconfirmedConsumers) {
    lines.push(`  not confirmed by ${consumer}: it cannot tell which generation it uses`);
  }
  for (const debt of debts) lines.push(`  ${stepsApart(debtText(debt))}`);
  return `${lines.join('\n')}\n`;
}

function tookMs(view: {
  startedAt: number;
  endedAt: number | null;
  phases: readonly { at: number }[];
}) {
  return (view.endedAt ?? view.phases.at(-1)?.at ?? view.startedAt) - view.startedAt;
}
