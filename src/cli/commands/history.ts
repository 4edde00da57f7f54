/** The command `rotate history`: the rotations so far, or one of them in full. */
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import type { RotationView, Service } from '../../rotation/service.ts';
import { type Call, only } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { minute, shortDuration, table } from '../print.ts';
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
      const rotation = await rotationOf(service, id);
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
      io.out(
        rotations.length === 0
          ? `No rotation${secret === null ? '' : ` of ${secret}`} yet.\n`
          : historyTable(rotations, io.columns),
      );
    return 'ok';
  });
}

/** By its id, or by as much of its beginning as the table shows. Throws where several begin so. */
async function rotationOf(service: Service, id: string): Promise<RotationView | null> {
  const exact = await service.rotation(id);
  if (exact !== null || id.length < shownIdLength) return exact;
  const all = await service.history(null, searchedMost);
  const [found, other] = all.filter((one) => one.id.startsWith(id));
  if (other === undefined) return found ?? null;
  throw new RotatedError('refused', `Several rotations begin with ${id}.`, {
    next: `Say more of the id: rotate history --json shows it whole.`,
  });
}

/** Of 28: the instant, to the millisecond, and 16 random bits. */
const shownIdLength = 16;
const searchedMost = 100_000;

function historyTable(rotations: readonly RotationView[], columns: number): string {
  return table(
    [
      { title: 'STARTED', widthMax: 17 },
      { title: 'SECRET', widthMax: 30 },
      { title: 'KIND', widthMax: 9 },
      { title: 'PHASE', widthMax: 11 },
      { title: 'TOOK', widthMax: 4, right: true },
      { title: 'ROTATION', widthMax: shownIdLength },
    ],
    rotations.map((one) => [
      minute(one.startedAt),
      one.secrets.join(','),
      one.kind,
      one.parked === null ? one.phase : 'parked',
      one.endedAt === null ? '-' : shortDuration(one.endedAt - one.startedAt),
      one.id.slice(0, shownIdLength),
    ]),
    // Whatever the next command needs is never cut: names are the widest, and give way first.
    Math.max(columns, 80),
  );
}
