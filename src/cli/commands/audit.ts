/** The command `rotate audit`: the trail for people, and the proof that it is whole. */
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import type { AuditEvent, AuditLine } from '../../journal/journal.ts';
import type { Service } from '../../rotation/service.ts';
import { type Call, only } from '../command.ts';
import { withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { instant } from '../print.ts';

const followEveryMs = 500;

export function configure(command: Command): void {
  command
    .usage('[options] [name]   or: audit verify')
    .option('--most <count>', 'how many lines, the newest', '50')
    .option('--from <number>', 'from this line on, oldest first')
    .option('--secret <name>', 'of this secret, whatever its name is')
    .option('--follow', 'keep printing new lines');
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const most = whole(options['most'], '--most');
  if (call.args[0] === 'verify' && options['secret'] === undefined) return verify(call);
  const secret =
    typeof options['secret'] === 'string'
      ? options['secret']
      : call.args.length === 0
        ? null
        : only(call.args, 'audit');
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    const from = options['from'] === undefined ? null : whole(options['from'], '--from');
    const lines = await newest(service, secret, from, most);
    if (options.json === true && options['follow'] !== true) {
      io.out(`${JSON.stringify({ ok: true, lines: lines.map(lineJson), note })}\n`);
      return 'ok';
    }
    const print = (line: AuditLine) =>
      io.out(options.json === true ? `${JSON.stringify(lineJson(line))}\n` : lineText(line));
    for (const line of lines) print(line);
    let next = (lines.at(-1)?.seq ?? 0) + 1;
    while (options['follow'] === true && !io.signal.aborted) {
      await io.clock.sleep(followEveryMs, io.signal).catch(() => undefined);
      for (const line of await service.audit(null, next, 1_000)) {
        next = line.seq + 1;
        if (secret === null || eventOf(line).secret === secret) print(line);
      }
    }
    return 'ok';
  });
}

function verify(call: Call): Promise<Exit> {
  const { io, options } = call;
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    const answer = await service.auditVerify();
    if (!answer.ok) {
      throw new RotatedError('audit-broken', `The audit trail was changed: ${answer.problem}`, {
        next: 'Keep the state directory as it is, and compare with the checkpoints outside it.',
      });
    }
    if (options.json === true) io.out(`${JSON.stringify({ ...answer, note })}\n`);
    else io.out(`${answer.lines} lines, none edited, removed, reordered or cut.\n`);
    return 'ok';
  });
}

/** Oldest first, whichever end they were asked from. */
async function newest(
  service: Service,
  secret: string | null,
  from: number | null,
  most: number,
): Promise<readonly AuditLine[]> {
  if (secret !== null) {
    const lines = await service.audit(secret, from ?? 0, most);
    return lines
      .toSorted((a, b) => a.seq - b.seq)
      .filter(({ seq }) => from === null || seq >= from);
  }
  return service.audit(null, from ?? -most, most);
}

function whole(value: unknown, option: string): number {
  const number = Number(value);
  if (Number.isInteger(number) && number >= 0) return number;
  throw new RotatedError('usage', `${option} takes a whole number.`, { next: `Say ${option} 50.` });
}

function eventOf(line: AuditLine): AuditEvent {
  return JSON.parse(line.line) as AuditEvent;
}

function lineJson(line: AuditLine) {
  return { seq: line.seq, mac: line.mac, event: eventOf(line) };
}

function lineText(line: AuditLine): string {
  const { at, actor, action, secret, rotation, reason, outcome, detail } = eventOf(line);
  const facts = Object.entries(detail).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  return `${[
    String(line.seq).padStart(5),
    instant(at),
    secret ?? '-',
    action,
    outcome === 'done' ? '' : outcome,
    `by ${actor.id}${actor.proven ? '' : '?'}`,
    reason === null ? '' : `(${reason})`,
    rotation === null ? '' : `rotation=${rotation}`,
    ...facts,
  ]
    .filter((part) => part !== '')
    .join(' ')}\n`;
}
