/** The command `rotate audit`: the trail for people, and the proof that it is whole. */
import path from 'node:path';
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import type { AuditEvent, AuditLine } from '../../journal/journal.ts';
import type { Service } from '../../rotation/service.ts';
import type { AuditAnswer } from '../../wiring/audit-outside.ts';
import { type Call, collect, only } from '../command.ts';
import { placesOf, withService } from '../connect.ts';
import type { Exit } from '../exit.ts';
import { instant, plural } from '../print.ts';

const followEveryMs = 500;

export function configure(command: Command): void {
  command
    .usage('[options] [name]   or: audit verify [--file COPY]')
    .option('--most <count>', 'how many lines, the newest', '50')
    .option('--from <number>', 'from this line on, oldest first')
    .option('--secret <name>', 'of this secret, whatever its name is')
    .option('--follow', 'keep printing new lines')
    .option(
      '--file <copy>',
      'with verify: a copy kept outside, by itself and against the state; repeatable, oldest first',
      collect,
      [],
    );
}

export function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const most = whole(options['most'], '--most');
  const isVerify =
    call.args.length === 1 && call.args[0] === 'verify' && options['secret'] === undefined;
  if (isVerify) return verify(call);
  if ((options['file'] as readonly string[]).length > 0) {
    throw new RotatedError('usage', '--file belongs to audit verify.', {
      next: 'Run: rotate audit verify --file COPY',
    });
  }
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
    if (lines.length === 0 && options['follow'] !== true) {
      io.out(`No line${secret === null ? '' : ` about ${secret}`}.\n`);
    }
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
  const files = options['file'] as readonly string[];
  if (files.length > 0) return verifyCopy(call, files);
  return withService(call, 'look', async ({ service, note }): Promise<Exit> => {
    const answer = await service.auditVerify();
    const { sinks = [] } = answer as Partial<AuditAnswer>;
    if (!answer.ok) {
      throw broken(answer.problem ?? '', 'Keep the state directory as it is, and a copy of it.');
    }
    if (options.json === true) {
      io.out(`${JSON.stringify({ ...answer, note })}\n`);
      return 'ok';
    }
    io.out(`${plural(answer.lines, 'line')}, none edited, removed, reordered or cut.\n`);
    for (const { sink, lines, checkpoints, unchecked } of sinks) {
      const same = lines === answer.lines ? 'the same' : 'the first';
      const held = `holds ${same} ${plural(lines, 'line')}, ${plural(checkpoints, 'checkpoint')}.`;
      io.out(unchecked === null ? `${sink} ${held}\n` : `${sink} not compared. ${unchecked}\n`);
    }
    return 'ok';
  });
}

/** Offline: with the key alone, and the state where one is here. */
async function verifyCopy(call: Call, named: readonly string[]): Promise<Exit> {
  const { io, options } = call;
  const [{ verifyFiles }, { hasState }, { keySourceOf }] = await Promise.all([
    import('../../wiring/audit-copies.ts'),
    import('../../wiring/has-state.ts'),
    import('../../wiring/places.ts'),
  ]);
  const places = placesOf(call);
  const files = named.map((file) => path.resolve(io.directory, file));
  const around = { env: io.env, directory: io.directory };
  const answer = await verifyFiles(files, {
    key: keySourceOf(places.key, around, io.random, false),
    state: hasState(places.state) ? places.state : null,
    clock: io.clock,
  });
  const { lines, checkpoints, unreadable, problem, state } = answer;
  if (problem !== null) throw broken(`In this copy: ${problem}`, 'Compare it with other copies.');
  if (state !== null && state.problem !== null) {
    throw broken(
      `The copy is whole, and ${places.state} is not as it says. ${state.problem}`,
      'Keep the state directory as it is, and a copy of it.',
    );
  }
  if (options.json === true) {
    io.out(`${JSON.stringify({ ok: true, ...answer })}\n`);
    return 'ok';
  }
  const torn = unreadable === 0 ? '' : ` (${plural(unreadable, 'torn line')}, written again)`;
  io.out(
    `${plural(lines, 'line')}, ${plural(checkpoints, 'checkpoint')}: as this deployment wrote them.${torn}\n`,
  );
  io.out(
    state === null
      ? 'Not compared with a state: there is none here.\n'
      : `${places.state} says the same${newer(state.newest - answer.newest)}.\n`,
  );
  return 'ok';
}

function newer(count: number): string {
  return count > 0 ? `, and has ${plural(count, 'newer line')}` : '';
}

function broken(problem: string, next: string): RotatedError {
  return new RotatedError('audit-broken', `The audit trail was changed. ${problem}`, { next });
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
  const facts = Object.entries({ ...detail, rotation })
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key}=${factText(key, value)}`);
  return `${[
    String(line.seq).padStart(5),
    instant(at),
    secret ?? '-',
    action,
    outcome === 'done' ? '' : outcome,
    `by ${actor.id}${actor.proven ? '' : '?'}`,
    reason === null ? '' : `(${reason})`,
    ...facts,
  ]
    .filter((part) => part !== '')
    .join(' ')}\n`;
}

function factText(key: string, value: unknown): string {
  if (key.endsWith('At') && typeof value === 'number') return instant(value);
  if (typeof value === 'string' && /^[\w./:-]+$/.test(value)) return value;
  return JSON.stringify(value);
}
