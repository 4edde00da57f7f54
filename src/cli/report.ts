/** The report of an incident: who, what, when minted, swapped, dead; for a terminal, a script, a ticket. */
import type { Plan, SecretStatus } from '../rotation/service.ts';
import type { Outcome } from './follow.ts';
import { duration, instant, plural, table } from './print.ts';

export interface IncidentRow {
  readonly secret: string;
  readonly rotation: string | null;
  readonly provider: string | null;
  readonly result: string;
  /** none: it was the first, there was nothing to end. */
  readonly oldKey: 'dead' | 'still live' | 'none';
  readonly startedAt: number | null;
  readonly mintedAt: number | null;
  readonly swappedAt: number | null;
  readonly adoptedAt: number | null;
  readonly deadAt: number | null;
  readonly overlapMs: number | null;
  /** What a person must do, in the order to do it; empty where nothing is. */
  readonly person: readonly string[];
  readonly error: string | null;
}

export interface Incident {
  readonly by: string;
  readonly reason: string | null;
  readonly mode: string | null;
  readonly startedAt: number;
  readonly endedAt: number;
  /** Failed calls of the consumers are theirs to count: null where nobody measured. */
  readonly callsFailed: number | null;
  readonly secrets: readonly IncidentRow[];
}

/** One secret of an outcome: a group is started once, and each of its members has a row. */
export function incidentRow(
  secret: string,
  outcome: Outcome,
  status: SecretStatus | undefined,
): IncidentRow {
  const { view, started } = outcome;
  const phaseAt = (phase: string) => view?.phases.find((one) => one.phase === phase)?.at ?? null;
  const debts = status?.debts ?? [];
  const deadAt = view?.deadAt[secret] ?? null;
  const steps = [
    ...(view === null && started.outcome === 'waits-for-person' ? [started.next] : []),
    ...(view?.parked ? [view.parked.next] : []),
    ...debts.filter((debt) => debt.needsPerson).map((debt) => debt.instructions),
  ];
  const isSettled = view?.phase === 'retired' && debts.length === 0;
  const ended = deadAt === null ? 'none' : 'dead';
  return {
    secret,
    rotation: started.rotation,
    provider: status?.provider ?? null,
    result: view === null ? started.outcome : view.parked === null ? view.phase : 'parked',
    oldKey: isSettled ? ended : 'still live',
    startedAt: view?.startedAt ?? null,
    mintedAt: phaseAt('minted'),
    swappedAt: phaseAt('promoted'),
    adoptedAt: phaseAt('adopted'),
    deadAt,
    overlapMs: view?.overlapMs ?? null,
    person: [...new Set(steps.filter((step): step is string => step !== null && step !== ''))],
    error:
      view === null
        ? started.outcome === 'refused'
          ? started.message
          : null
        : (view.parked?.message ?? view.lastError?.message ?? null),
  };
}

export function incidentText(incident: Incident, columns: number): string {
  const { secrets, startedAt, endedAt } = incident;
  const count = (oldKey: IncidentRow['oldKey']) =>
    secrets.filter((one) => one.oldKey === oldKey).length;
  const olds = secrets.length - count('none');
  const took = duration(endedAt - startedAt);
  const lines = [
    olds === 0
      ? `There was no old key to end; the first was made in ${took}.`
      : `${count('dead')} of ${plural(olds, 'old key')} dead after ${took}.`,
    `By ${incident.by}, mode ${incident.mode ?? 'as each policy says'}, reason: ${incident.reason ?? 'none given'}.`,
    '',
    table(
      [
        { title: 'SECRET', widthMax: 28 },
        { title: 'OLD KEY', widthMax: 10 },
        { title: 'MINTED', widthMax: 8 },
        { title: 'SWAPPED', widthMax: 8 },
        { title: 'DEAD', widthMax: 8 },
        { title: 'RESULT', widthMax: 14 },
      ],
      secrets.map((one) => [
        one.secret,
        one.oldKey,
        after(one.mintedAt, startedAt),
        after(one.swappedAt, startedAt),
        after(one.deadAt, startedAt),
        one.result,
      ]),
      columns,
    ).trimEnd(),
    `Calls failed: ${incident.callsFailed ?? 'not measured'}.`,
    ...errorLines(secrets),
    ...personLines(secrets),
  ];
  return `${lines.join('\n')}\n`;
}

export function incidentMarkdown(incident: Incident): string {
  const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
  const time = (at: number | null) => (at === null ? '–' : instant(at));
  const rows = incident.secrets.map(
    (one) =>
      `| ${cell(one.secret)} | ${one.rotation ?? '–'} | ${one.oldKey} | ${time(one.mintedAt)} | ${time(one.swappedAt)} | ${time(one.deadAt)} | ${cell(one.result)} |`,
  );
  return `${[
    '# Emergency rotation',
    '',
    `- By: ${incident.by}`,
    `- Reason: ${incident.reason ?? 'none given'}`,
    `- Mode: ${incident.mode ?? 'as each policy says'}`,
    `- Began: ${instant(incident.startedAt)}`,
    `- Reported: ${instant(incident.endedAt)} (after ${duration(incident.endedAt - incident.startedAt)})`,
    `- Calls failed: ${incident.callsFailed ?? 'not measured'}`,
    '',
    '| secret | rotation | old key | minted | swapped | dead | result |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    ...errorLines(incident.secrets),
    ...personLines(incident.secrets),
  ].join('\n')}\n`;
}

function errorLines(rows: readonly IncidentRow[]): string[] {
  const wrong = rows.filter((one) => one.error !== null);
  return wrong.length === 0 ? [] : ['', ...wrong.map((one) => `- ${one.secret}: ${one.error}`)];
}

function personLines(rows: readonly IncidentRow[]): string[] {
  const steps = rows.flatMap((one) => one.person.map((step) => `${one.secret}: ${step}`));
  if (steps.length === 0) return [];
  return [
    '',
    'Still live until a person has done this, in this order:',
    ...steps.map((step, index) => `${index + 1}. ${step}`),
  ];
}

function after(at: number | null, startedAt: number): string {
  return at === null ? '-' : `+${duration(at - startedAt)}`;
}

/** The first line of an emergency: when the old keys will be dead. */
export function deadLine(plans: readonly Plan[]): string {
  const keys = (count: number) => plural(count, 'old key');
  const bounds = plans.map((plan) => plan.deadWithinMs).filter((ms) => ms !== null);
  const persons = plans.length - bounds.length;
  const first =
    bounds.length === 0
      ? ''
      : `${keys(bounds.length)} will be dead as soon as the consumers use the new ones, in ${duration(Math.max(...bounds))} at the latest.`;
  const second = persons === 0 ? '' : `${keys(persons)} will live until a person has ended them.`;
  return [first, second].filter((part) => part !== '').join(' ');
}
