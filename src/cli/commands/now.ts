/** The command `rotate --now`: the present keys have leaked. Says first when they will be dead, asks, replaces, reports. */
import { type Command, Option } from 'commander';
import { RotatedError } from '../../errors.ts';
import type { EmergencyMode, Plan, Selector, Service } from '../../rotation/service.ts';
import {
  addReasonOption,
  addSelectorOptions,
  askOf,
  type Call,
  selectorOrUsage,
} from '../command.ts';
import { withService } from '../connect.ts';
import { type Exit, worst } from '../exit.ts';
import { follow, type Outcome } from '../follow.ts';
import { addWaitOption, waitOf } from '../outcomes.ts';
import { plural, table } from '../print.ts';
import { deadLine, type Incident, incidentMarkdown, incidentRow, incidentText } from '../report.ts';

export function configure(command: Command): void {
  command.usage('[options] [names...]   (also: rotate --now [names...])');
  addSelectorOptions(command);
  command
    .addOption(
      new Option(
        '--mode <mode>',
        'continuity: replace first, then revoke; contain: revoke first, calls fail meanwhile',
      ).choices(['continuity', 'contain']),
    )
    .option('--yes', 'do not ask; needed where there is no terminal')
    .option('--dry-run', 'show what would be done, and do nothing')
    .option('--markdown', 'print the report as Markdown');
  addReasonOption(command);
  addWaitOption(command, '15m');
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const selector = selectorOrUsage(call, '--now');
  const mode = (options['mode'] as EmergencyMode | undefined) ?? null;
  const dryRun = options['dryRun'] === true;
  const patienceMs = waitOf(call);
  if (options['yes'] !== true && !dryRun && !io.inIsTerminal) {
    throw new RotatedError('refused', 'There is no terminal to ask at whether this is meant.', {
      next: 'Say --yes to do it, or --dry-run to see what it would do.',
    });
  }
  return withService(call, dryRun ? 'look' : 'act', async ({ service, note }): Promise<Exit> => {
    const plans = await service.plan(selector, mode ?? 'continuity');
    if (plans.length === 0) {
      throw new RotatedError('policy-unknown', 'No secret is selected.', {
        next: 'Run: rotate status',
      });
    }
    const radius = await blastRadius(service, selector, plans, mode, io.columns);
    if (dryRun) {
      if (options.json === true)
        io.out(`${JSON.stringify({ ok: true, dryRun: true, mode, plans })}\n`);
      else io.out(radius);
      return 'ok';
    }
    io.err(radius);
    if (note !== null) io.err(`${note}\n`);
    if (options['yes'] !== true) {
      const answer = await io.ask(`Replace ${plural(plans.length, 'key')} now? Type yes: `, false);
      if (answer?.trim().toLowerCase() !== 'yes') {
        throw new RotatedError('refused', 'Nothing was done.', { next: 'Type yes, or say --yes.' });
      }
    }
    const ask = askOf(call);
    const startedAt = io.clock.now();
    const started = await service.now(selector, mode, ask);
    const outcomes = await follow(call, service, started, { patienceMs, waitingIs: 'debts' });
    const statuses = await service.status({ ...selector, names: [], all: true });
    const incident: Incident = {
      by: ask.actor.id,
      reason: ask.reason,
      mode,
      startedAt,
      endedAt: io.clock.now(),
      callsFailed: null,
      secrets: outcomes.flatMap((outcome) =>
        (outcome.view?.secrets ?? [outcome.secret]).map((secret) =>
          incidentRow(
            secret,
            outcome,
            statuses.secrets.find((one) => one.secret === secret),
          ),
        ),
      ),
    };
    return report(call, incident, outcomes, note);
  });
}

function report(
  { io, options }: Call,
  incident: Incident,
  outcomes: readonly Outcome[],
  note: string | null,
): Exit {
  const live = incident.secrets.some((one) => one.oldKey === 'still live');
  const exit = worst([...outcomes.map((one) => one.exit), ...(live ? (['debts'] as const) : [])]);
  if (options.json === true) {
    io.out(`${JSON.stringify({ ok: exit === 'ok', exit, note, ...incident })}\n`);
  } else if (options['markdown'] === true) io.out(incidentMarkdown(incident));
  else io.out(incidentText(incident, io.columns));
  return exit;
}

/** What is about to be touched, in the order of the names. The first line says when the old keys will be dead. */
async function blastRadius(
  service: Service,
  selector: Selector,
  plans: readonly Plan[],
  mode: EmergencyMode | null,
  columns: number,
): Promise<string> {
  const { secrets } = await service.status(selector);
  const rows = plans.map(({ secret, consumers }) => {
    const status = secrets.find((one) => one.secret === secret);
    return [
      secret,
      status?.provider ?? '?',
      status?.backend ?? '?',
      consumers.join(', ') || 'nobody named',
      status?.active === null || status === undefined ? '-' : status.active.phase,
    ];
  });
  const warnings = plans.flatMap((plan) =>
    plan.warnings.map((text) => `! ${plan.secret}: ${text}\n`),
  );
  return [
    `${deadLine(plans)}\n`,
    mode === 'contain'
      ? 'Mode contain: the old keys are revoked first; calls fail until the new ones are in use.\n'
      : '',
    table(
      [
        { title: 'SECRET', widthMax: 28 },
        { title: 'PROVIDER', widthMax: 12 },
        { title: 'WHERE', widthMax: 28 },
        { title: 'USED BY', widthMax: 60 },
        { title: 'UNDER WAY', widthMax: 12 },
      ],
      rows,
      columns,
    ),
    ...warnings,
  ].join('');
}
