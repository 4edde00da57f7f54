/** The command `rotate confirm`: a person vouches for what the machine cannot see. */
import type { Command } from 'commander';
import { addReasonOption, askOf, type Call, only } from '../command.ts';
import { withService } from '../connect.ts';
import { type Exit, exitOfStarted } from '../exit.ts';
import { startedText } from '../follow.ts';

export function configure(command: Command): void {
  command.option(
    '--debt <id>',
    'this debt is settled (its id: rotate status NAME); else: the consumers use the new credential',
  );
  addReasonOption(command);
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const secret = only(call.args, 'confirm');
  const debt = typeof options['debt'] === 'string' ? options['debt'] : null;
  return withService(call, 'act', async ({ service, note }) => {
    const started = await service.confirm(secret, debt, askOf(call));
    const exit = exitOfStarted(started);
    if (options.json === true) {
      io.out(`${JSON.stringify({ ok: exit === 'ok', ...started, note })}\n`);
    } else io.out(startedText(started));
    return exit;
  });
}
