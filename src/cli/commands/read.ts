/** The command `rotate read`: prints a credential. Explicit, audited, to a terminal only when told so twice. */
import { type Command, Option } from 'commander';
import { RotatedError } from '../../errors.ts';
import { addReasonOption, askOf, type Call, only } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';

export function configure(command: Command): void {
  command
    .addOption(
      new Option('--stage <stage>', 'which version')
        .choices(['current', 'pending', 'previous'])
        .default('current'),
    )
    .option('--field <name>', 'this field alone, as it is')
    .option('--reveal', 'also to a terminal');
  addReasonOption(command);
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const secret = only(call.args, 'read');
  if (io.outIsTerminal && options['reveal'] !== true) {
    throw new RotatedError('refused', 'A credential is not printed to a terminal by accident.', {
      secret,
      next: `Say --reveal, or pipe it: rotate read ${secret} --field NAME | other-command`,
    });
  }
  const stage = options['stage'] as 'current' | 'pending' | 'previous';
  return withService(call, 'act', async ({ service, note }): Promise<Exit> => {
    const { generation, fields } = await service.read(secret, stage, askOf(call));
    const field = typeof options['field'] === 'string' ? options['field'] : null;
    if (note !== null) io.err(`${note}\n`);
    if (field !== null) {
      const value = Object.hasOwn(fields, field) ? fields[field] : undefined;
      if (value === undefined) {
        throw new RotatedError('not-found', `It has no field ${field}.`, {
          secret,
          next: `Its fields: ${Object.keys(fields).join(', ')}.`,
        });
      }
      // As it is: a newline of ours would become part of a password.
      io.out(io.outIsTerminal ? `${value.reveal()}\n` : value.reveal());
      return 'ok';
    }
    const shown = Object.fromEntries(
      Object.entries(fields).map(([name, value]) => [name, value.reveal()]),
    );
    io.out(
      options.json === true
        ? `${JSON.stringify({ ok: true, secret, stage, generation, fields: shown })}\n`
        : `${JSON.stringify(shown, null, 2)}\n`,
    );
    return 'ok';
  });
}
