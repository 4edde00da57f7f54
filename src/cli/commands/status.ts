/** The command `rotate status`: one line for each secret, or one secret in full. */
import type { Command } from 'commander';
import type { SecretStatus, ServiceStatus } from '../../rotation/service.ts';
import { addSelectorOptions, type Call, selectorOrAll } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { debtText } from '../follow.ts';
import { duration, instant, shortDuration, stepsApart, table } from '../print.ts';
import { rotationText } from '../rotation-text.ts';

const watchEveryMs = 1_000;

export function configure(command: Command): void {
  addSelectorOptions(command);
  command.option('--watch', 'keep showing it; with --json one object a line, at each change');
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const selector = selectorOrAll(call);
  const detailed = call.args.length === 1 && options['watch'] !== true;
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    const show = (status: ServiceStatus): string => {
      if (options.json === true) return `${JSON.stringify({ ok: true, ...status, note })}\n`;
      const [only] = status.secrets;
      const now = io.clock.now();
      if (detailed && only !== undefined) return detailText(only, now);
      return statusTable(status, now, io.columns);
    };
    if (options['watch'] !== true) {
      if (note !== null && options.json !== true) io.err(`${note}\n`);
      io.out(show(await service.status(selector)));
      return 'ok';
    }
    let last = '';
    while (!io.signal.aborted) {
      const text = show(await service.status(selector));
      if (io.outIsTerminal && options.json !== true) {
        io.out(`\u001B[H\u001B[J${text}${note === null ? '' : `${note}\n`}`);
      } else if (isChanged(last, text)) io.out(text);
      last = text;
      await io.clock.sleep(watchEveryMs, io.signal).catch(() => undefined);
    }
    return 'ok';
  });
}

/** What only grew older is as it was. */
function isChanged(before: string, after: string): boolean {
  const ages = /"(?:ageMs|nextInMs)":[^,}]+/g;
  return before.replaceAll(ages, '') !== after.replaceAll(ages, '');
}

export function statusTable(status: ServiceStatus, now: number, columns: number): string {
  const warnings = [
    ...status.warnings,
    ...status.secrets.flatMap((one) => attention(one, now).map((text) => `${one.secret}: ${text}`)),
  ].map((text) => `! ${stepsApart(text)}\n`);
  if (status.secrets.length === 0) return `No secret has a policy.\n${warnings.join('')}`;
  return (
    table(
      [
        { title: 'SECRET', widthMax: 30 },
        { title: 'AGE', widthMax: 5, right: true },
        { title: 'NEXT DUE', widthMax: 10 },
        { title: 'PHASE', widthMax: 13 },
        { title: 'DEBTS', widthMax: 5, right: true },
        { title: 'LAST RESULT', widthMax: 22 },
      ],
      status.secrets.map((one) => [
        one.secret,
        one.ageMs === null ? '-' : shortDuration(one.ageMs),
        dueText(one, now),
        phaseText(one),
        one.debts.length === 0 ? '-' : String(one.debts.length),
        resultText(one, now),
      ]),
      columns,
    ) + warnings.join('')
  );
}

function dueText(one: SecretStatus, now: number): string {
  if (one.paused !== null) return 'paused';
  if (one.dueAt === null) return 'when asked';
  return one.dueAt <= now ? 'now' : `in ${shortDuration(one.dueAt - now)}`;
}

function phaseText(one: SecretStatus): string {
  if (one.lost) return 'lost';
  if (one.active === null) return '-';
  return one.active.parked === null ? one.active.phase : 'parked';
}

function resultText(one: SecretStatus, now: number): string {
  if (one.lastResult === null) return '-';
  return `${one.lastResult.phase} ${shortDuration(now - one.lastResult.at)} ago`;
}

/** What somebody should know, each with the command that helps. */
function attention(one: SecretStatus, now: number): string[] {
  const lines = [...one.warnings];
  if (one.paused !== null) {
    const since = shortDuration(now - one.paused.since);
    lines.push(`paused for ${since}: ${one.paused.reason}. Run: rotate resume ${one.secret}`);
  }
  if (one.lost) lines.push(`Run: rotate restore ${one.secret}`);
  const parked = one.active?.parked ?? null;
  if (parked !== null) lines.push(`waits for a person: ${parked.message} Next: ${parked.next}`);
  if (one.lastResult !== null && one.lastResult.error !== null) {
    lines.push(`last rotation ${one.lastResult.phase}: ${one.lastResult.error}`);
  }
  for (const debt of one.debts) lines.push(debtText(debt));
  return lines;
}

function detailText(one: SecretStatus, now: number): string {
  const lines = [
    `${one.secret}: generation ${one.generation}, ${one.provider} → ${one.backend}`,
    one.currentSince === null
      ? '  never rotated'
      : `  current since ${instant(one.currentSince)} (${duration(now - one.currentSince)})`,
    one.dueAt === null
      ? '  rotates only when asked'
      : `  due at ${instant(one.dueAt)} (${dueText(one, now)})`,
    ...(one.tags.length === 0 ? [] : [`  tags: ${one.tags.join(', ')}`]),
    ...one.instances.map(
      ({ consumer, instance, generation, state }) =>
        `  ${consumer} ${instance}: ${state}, generation ${generation ?? 'none'}`,
    ),
    ...one.debts.map((debt) => `  debt ${debt.id}: ${debt.kind} ${debt.ref ?? ''}`.trimEnd()),
    ...attention(one, now).map((text) => `  ! ${stepsApart(text).replaceAll('\n', '\n  ')}`),
  ];
  const active = one.active === null ? '' : rotationText(one.active);
  return `${lines.join('\n')}\n${active}`;
}
