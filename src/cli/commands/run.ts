/** The command `rotate run`: an ordinary rotation, now. */
import type { Command } from 'commander';
import {
  addReasonOption,
  addSelectorOptions,
  askOf,
  type Call,
  selectorOrUsage,
} from '../command.ts';
import { withService } from '../connect.ts';
import { type Exit, worst } from '../exit.ts';
import { follow } from '../follow.ts';
import { addWaitOption, printOutcomes, waitOf } from '../outcomes.ts';

export function configure(command: Command): void {
  addSelectorOptions(command);
  addReasonOption(command);
  addWaitOption(command);
}

export function run(call: Call): Promise<Exit> {
  const selector = selectorOrUsage(call, 'run');
  const patienceMs = waitOf(call);
  return withService(call, 'act', async ({ service, note }) => {
    const started = await service.run(selector, askOf(call));
    const outcomes = await follow(call, service, started, { patienceMs, waitingIs: 'ok' });
    printOutcomes(call, outcomes, note);
    return worst(outcomes.map((one) => one.exit));
  });
}
