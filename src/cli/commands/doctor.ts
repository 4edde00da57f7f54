/** The command `rotate doctor`: what is wrong, from the Node that runs this to the consumers that are told. */
import type { Command } from 'commander';
import { hasState } from '../../wiring/has-state.ts';
import { isRotatedError } from '../../errors.ts';
import type { Finding } from '../../finding.ts';
import type { ServiceStatus } from '../../rotation/service.ts';

import { examined, printExamination } from '../check.ts';
import { type Call, selectorOrAll } from '../command.ts';
import { placesOf, reach, withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { plural } from '../print.ts';

export function configure(command: Command): void {
  command.option('--no-reach', 'do not try issuers, backends and consumers');
}

export async function run(call: Call): Promise<Exit> {
  const places = placesOf(call);
  const only = call.args.length === 0 ? null : new Set(call.args);
  const first: Finding[] = [
    { name: 'node', level: 'green', message: `Node ${process.versions.node}.` },
    ...places.warnings.map((message): Finding => ({ name: 'places', level: 'amber', message })),
    await daemonFinding(places.state),
  ];
  const examination = await examined(call, places, call.options['reach'] !== false, only);
  const secrets = hasState(places.state) ? await secretFindings(call) : [];
  const findings = [...first, ...examination.findings, ...secrets];
  return printExamination(call, { ...examination, findings }, places);
}

async function daemonFinding(state: string): Promise<Finding> {
  const reached = await reach(state);
  if (reached.kind === 'connected') reached.client.close();
  switch (reached.kind) {
    case 'connected':
      return {
        name: 'daemon',
        level: 'green',
        message: `The daemon answers (process ${reached.client.hello.pid}, version ${reached.client.hello.rotated}).`,
      };
    case 'absent':
      return {
        name: 'daemon-absent',
        level: 'amber',
        message: `No daemon serves ${state}: nothing rotates on schedule.`,
        mend: 'Start it: rotated.',
      };
    case 'silent':
      return {
        name: 'daemon-silent',
        level: 'red',
        message: 'The daemon does not answer.',
        mend: 'Look at its log. If it hangs, end it with kill -9 and start it again: all resumes.',
      };
    case 'denied':
      return {
        name: 'daemon-denied',
        level: 'red',
        message: `${state} belongs to another account.`,
        mend: 'Run this as the account of the daemon, or as root.',
      };
    case 'other-version':
      return {
        name: 'daemon-version',
        level: 'red',
        message: `The daemon is version ${reached.hello.rotated} (process ${reached.hello.pid}).`,
        mend: 'Restart it.',
      };
    default:
      return reached satisfies never;
  }
}

async function secretFindings(call: Call): Promise<Finding[]> {
  try {
    return await withService(call, 'look', async ({ service }) => [
      ...statusFindings(await service.status(selectorOrAll({ ...call, args: [] }))),
      ...auditFindings(await service.auditVerify()),
    ]);
  } catch (error) {
    if (!isRotatedError(error)) throw error;
    return [
      {
        name: error.code,
        level: 'red',
        message: error.message,
        ...(error.next === '' ? {} : { mend: error.next }),
      },
    ];
  }
}

function statusFindings({ secrets, warnings }: ServiceStatus): Finding[] {
  return [
    ...warnings.map((message): Finding => ({ name: 'service', level: 'amber', message })),
    ...secrets.flatMap(({ secret, paused, lost, active, debts }): Finding[] => [
      ...(paused === null
        ? []
        : [amber('paused', secret, `Paused: ${paused.reason}.`, `rotate resume ${secret}`)]),
      ...(lost
        ? [amber('lost', secret, 'The backend lost its item.', `rotate restore ${secret}`)]
        : []),
      ...(active === null || active.parked === null
        ? []
        : [amber('parked', secret, active.parked.message, active.parked.next)]),
      ...(debts.length === 0
        ? []
        : [
            amber(
              'debts',
              secret,
              `Owes ${plural(debts.length, 'debt')}.`,
              `rotate status ${secret}`,
            ),
          ]),
    ]),
  ];
}

function auditFindings({
  ok,
  lines,
  problem,
}: {
  readonly ok: boolean;
  readonly lines: number;
  readonly problem: string | null;
}): Finding[] {
  return ok
    ? [{ name: 'audit', level: 'green', message: `The audit trail is whole (${lines} lines).` }]
    : [
        {
          name: 'audit-broken',
          level: 'red',
          message: `The audit trail was changed: ${problem ?? 'unknown'}`,
          mend: 'Keep the state directory as it is, and compare with the checkpoints outside it.',
        },
      ];
}

function amber(name: string, place: string, message: string, mend: string): Finding {
  return { name, level: 'amber', message, place, mend };
}
