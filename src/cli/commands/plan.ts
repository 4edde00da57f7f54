/** The command `rotate plan`: what would be done, step by step, and when; changes nothing. */
import { type Command, Option } from 'commander';
import type { EmergencyMode, Plan } from '../../rotation/service.ts';
import { addSelectorOptions, type Call, selectorOrAll } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { duration, instant } from '../print.ts';

export function configure(command: Command): void {
  addSelectorOptions(command);
  command
    .option('--now', 'the plan of an emergency')
    .addOption(new Option('--mode <mode>', 'of the emergency').choices(['continuity', 'contain']));
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const asked = options['mode'] as EmergencyMode | undefined;
  const mode = asked ?? (options['now'] === true ? 'continuity' : null);
  return withService(call, 'imagine', async ({ service, note }): Promise<Exit> => {
    const plans = await service.plan(selectorOrAll(call), mode);
    if (options.json === true) io.out(`${JSON.stringify({ ok: true, mode, plans, note })}\n`);
    else io.out(plans.map(planText).join('\n') || 'No secret has a policy.\n');
    return 'ok';
  });
}

function planText(plan: Plan): string {
  return `${[
    plan.secret,
    plan.runs.length === 0
      ? '  rotates only when asked'
      : `  next: ${plan.runs.map((at) => instant(at)).join(', ')}`,
    ...plan.steps.map(({ phase, what, afterMs }) => {
      const when = afterMs === null ? 'then' : afterMs === 0 ? 'at once' : `+${duration(afterMs)}`;
      return `  ${when.padEnd(9)} ${phase.padEnd(11)} ${what}`;
    }),
    ...plan.warnings.map((text) => `  ! ${text}`),
  ].join('\n')}\n`;
}
