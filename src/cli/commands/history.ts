/** The command `rotate history`: the rotations so far, or one of them in full. */
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import type { RotationView } from '../../rotation/service.ts';
import { type Call, only } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { instant, shortDuration, table } from '../print.ts';
import { rotationText } from '../rotation-text.ts';

export function configure(command: Command): void {
  command
    .option('--most <count>', 'how many', '20')
    .option('--rotation <id>', 'one rotation, with all its phases');
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const most = Number(options['most']);
  if (!Number.isInteger(most) || most < 1) {
    throw new RotatedError('usage', '--most takes a whole number above 0.', {
      next: 'Say --most 20.',
    });
  }
  const id = typeof options['rotation'] === 'string' ? options['rotation'] : null;
  const secret = call.args.length === 0 ? null : only(call.args, 'history');
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    if (id !== null) {
      const rotation = await service.rotation(id);
      if (rotation === null) {
        throw new RotatedError('not-found', `There is no rotation ${id}.`, {
          next: 'Run: rotate history',
        });
      }
      io.out(
        options.json === true
          ? `${JSON.stringify({ ok: true, rotation, note })}\n`
          : rotationText(rotation),
      );
      return 'ok';
    }
    const rotations = await service.history(secret, most);
    if (options.json === true) io.out(`${JSON.stringify({ ok: true, rotations, note })}\n`);
    else
      io.out(rotations.length === 0 ? 'No rotation yet.\n' : historyTable(rotations, io.columns));
    return 'ok';
  });
}

function historyTable(rotations: readonly RotationView[], columns: number): string {
  return table(
    [
      { title: 'STARTED', widthMax: 20 },
      { title: 'SECRET', widthMax: 24 },
      { title: 'KIND', widthMax: 9 },
      { title: 'PHASE', widthMax: 12 },
      { title: 'TOOK', widthMax: 5, right: true },
      { title: 'ROTATION', widthMax: 28 },
    ],
    rotations.map((one) => [
      instant(one.startedAt),
      one.secrets.join(','),
      one.kind,
      one.parked === null ? one.phase : 'parked',
      one.endedAt === null ? '-' : shortDuration(one.endedAt - one.startedAt),
      one.id,
    ]),
    // The id is what the next command needs: never cut it.
    Math.max(columns, 110),
  );
}
