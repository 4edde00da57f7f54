/** The commands as people and scripts use them: what they print, what they exit with, what they refuse. Without a daemon. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock, systemRandom } from '../clock.ts';
import { controlVersion } from '../control/protocol.ts';
import { controlSocketPath, prepareSocketFolder } from '../control/socket-path.ts';
import { commands } from './commands.ts';
import type { Io, ProgramName } from './io.ts';
import { main } from './main.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Terminal {
  readonly in?: boolean;
  readonly out?: boolean;
  readonly program?: ProgramName;
  readonly typed?: readonly string[];
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly sleep?: Clock['sleep'];
  readonly signal?: AbortSignal;
}

interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  json(): Record<string, unknown>;
}

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'cli-'));
  mkdirSync(path.join(folder, 'schedules'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});

function policy(name: string, more = ''): void {
  writeFileSync(
    path.join(folder, 'schedules', `${name}.yaml`),
    `secrets:\n  ${name}:\n    provider: { use: generated, kind: random }\n    backend: local://${name}\n    every: 30d\n    grace: 1h\n${more}`,
  );
}

function operatorPolicy(name: string): void {
  writeFileSync(
    path.join(folder, 'schedules', `${name}.yaml`),
    `secrets:\n  ${name}:\n    provider: { use: operator, instructions: Make one, link: "https://issuer.example/keys" }\n    backend: local://${name}\n    every: 30d\n    grace: 1h\n`,
  );
}

async function rotate(args: readonly string[], terminal: Terminal = {}): Promise<Result> {
  let out = '';
  let err = '';
  const typed = [...(terminal.typed ?? [])];
  const io: Io = {
    program: terminal.program ?? 'rotate',
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
    outIsTerminal: terminal.out === true,
    errIsTerminal: false,
    inIsTerminal: terminal.in === true,
    columns: 80,
    env: { HOME: folder, USER: 'anna', ...terminal.env },
    directory: folder,
    clock: { ...systemClock(), ...(terminal.sleep && { sleep: terminal.sleep }) },
    random: systemRandom(),
    readIn: async () => terminal.stdin ?? '',
    ask: async () => typed.shift() ?? null,
    signal: terminal.signal ?? new AbortController().signal,
  };
  const code = await main(args, io);
  return { code, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
}

describe('the command line', () => {
  test('rotate alone prints help; every command is in it and has help of its own', async () => {
    const alone = await rotate([]);
    expect(alone.code).toBe(0);
    for (const name of Object.keys(commands)) {
      expect(alone.out).toContain(`  ${name} `);
      for (const program of ['rotate', 'rotated'] as const) {
        const help = await rotate([name, '--help'], { program });
        expect(help.code).toBe(0);
        expect(help.out).toContain(`Usage: ${program} ${name}`);
      }
    }
    expect((await rotate(['help', 'status'])).out).toContain('Usage: rotate status');
    expect((await rotate(['--help'], { program: 'rotated' })).out).toContain('Usage: rotated');
    expect((await rotate(['--version'], { program: 'rotated' })).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test('a mistake is exit 2, names what is near, and is JSON where JSON was asked for', async () => {
    const typo = await rotate(['statsu']);
    expect(typo.code).toBe(2);
    expect(typo.err).toContain('Did you mean status?');
    expect((await rotate(['statsu'], { program: 'rotated' })).code).toBe(2);
    expect((await rotate(['status', '--nope'])).code).toBe(2);
    expect((await rotate(['run'])).code).toBe(2);
    expect((await rotate(['pause'])).code).toBe(2);
    expect((await rotate(['pause', 'a', 'b'])).code).toBe(2);
    expect((await rotate(['run', 'a', '--wait', 'soon'])).code).toBe(2);
    expect((await rotate(['status', '--state'])).code).toBe(2);
    const help = await rotate(['help', 'nope']);
    expect(help.code).toBe(2);
    expect(help.err).toBe("rotate: unknown command 'nope'\nNext: rotate --help\n");
    expect((await rotate(['run', 'a', '--nope'])).err).toContain('Next: rotate run --help');
    expect((await rotate(['audit', '--file', 'x'])).code).toBe(2);
    const json = await rotate(['status', '--nope', '--json']);
    expect(json.code).toBe(2);
    expect(json.json()).toMatchObject({ ok: false, error: { code: 'usage' } });
  });

  test('--now is a command of its own wherever it stands, and swallows no command', async () => {
    policy('a');
    policy('status');
    for (const args of [
      ['--now', 'a', '--dry-run'],
      ['now', 'a', '--dry-run'],
      ['--json', '--now', 'a', '--dry-run'],
      ['--now=a', '--dry-run'],
    ]) {
      const result = await rotate(['run', 'a', '--wait', '0s']).then(() => rotate(args));
      expect(result.code, args.join(' ')).toBe(0);
    }
    const named = await rotate(['--now', 'status', '--dry-run', '--json']);
    expect(named.json()).toMatchObject({ dryRun: true, plans: [{ secret: 'status' }] });
    expect((await rotate(['status', '--now'])).code).toBe(2);
  });
});

describe('at a terminal of 80 columns', () => {
  const widest = ({ out }: Result) =>
    Math.max(
      ...out
        .split('\n')
        .filter((line) => /\S \S/.test(line) && !/^\s*Next: /.test(line))
        .map((line) => line.length),
    );

  test('nothing is wider, but a command to copy and what is to be pasted stay whole', async () => {
    policy('a-secret-with-a-rather-long-name-such-as-teams-give');
    operatorPolicy('search');
    expect((await rotate(['--now', '--all', '--yes', '--wait', '1s'], { out: true })).code).toBe(6);
    await rotate(['supply', 'search'], { stdin: 'first-value-of-the-key' });
    await rotate(['--now', 'search', '--yes', '--wait', '1s']);
    await rotate(['supply', 'search'], { stdin: 'second-value-of-the-key' });
    for (const args of [
      ['status'],
      ['status', 'search'],
      ['plan'],
      ['history'],
      ['audit'],
      ['doctor'],
      ['--help'],
      ['init'],
      ['--now', '--all', '--dry-run'],
    ]) {
      const shown = await rotate(args, { out: true });
      expect(widest(shown), args.join(' ')).toBeLessThanOrEqual(80);
    }
    const status = await rotate(['status'], { out: true });
    expect(status.out).toMatch(/\n {2}Next: once that is done, rotate confirm search --debt \S+\n/);
    expect(widest(await rotate(['audit'], { out: false }))).toBeGreaterThan(100);
    const read = await rotate(['read', 'search', '--reveal'], { out: true });
    expect(JSON.parse(read.out)).toEqual({ value: 'second-value-of-the-key' });
  });

  test('an id as history shows it is enough to ask for that rotation', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const { out } = await rotate(['history']);
    const shown = /(\w{16})\n/.exec(out)?.[1] ?? '';
    expect((await rotate(['history', '--rotation', shown])).out).toContain(`rotation ${shown}`);
    expect((await rotate(['history', '--rotation', shown.slice(0, 8)])).code).toBe(3);
  });
});

describe('without a daemon', () => {
  test('run rotates, status, history, plan and audit show it', async () => {
    policy('reports-db');
    const run = await rotate(['run', 'reports-db', '--reason', 'ticket 7', '--json']);
    expect(run.code).toBe(0);
    expect(run.json()).toMatchObject({
      ok: true,
      secrets: [{ secret: 'reports-db', outcome: 'started', rotation: { phase: 'retired' } }],
    });
    expect(run.err).toContain('promoted');
    const status = await rotate(['status']);
    expect(status.out).toMatch(/^SECRET +AGE NEXT DUE +PHASE +DEBTS LAST RESULT\nreports-db /);
    expect(Math.max(...status.out.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80);
    expect((await rotate(['status', 'reports-db'])).out).toContain('generation 1');
    expect((await rotate(['history', 'reports-db'])).out).toContain('asked');
    const [rotation] = (await rotate(['history', '--json'])).json()['rotations'] as {
      id: string;
    }[];
    expect((await rotate(['history', '--rotation', rotation?.id ?? ''])).out).toContain('ticket 7');
    expect((await rotate(['plan', 'reports-db'])).out).toContain('promoted');
    const audit = await rotate(['audit', 'reports-db', '--most', '3']);
    expect(audit.out.trim().split('\n')).toHaveLength(3);
    expect(audit.out).toContain('ticket 7');
    expect((await rotate(['audit', 'verify', '--json'])).json()).toMatchObject({ ok: true });
  });

  test('--now replaces, ends the old key, and reports as text, JSON and Markdown', async () => {
    policy('a');
    policy('b');
    await rotate(['run', 'a', 'b']);
    const text = await rotate(['--now', '--all', '--yes', '--reason', 'on a pastebin']);
    expect(text.code).toBe(0);
    expect(text.err.split('\n')[0]).toMatch(/^2 old keys will be dead .* at the latest\.$/);
    expect(text.out).toMatch(/^2 of 2 old keys dead after /);
    expect(text.out).toContain('on a pastebin');
    const json = (await rotate(['--now', 'a', '--yes', '--json'])).json();
    expect(json).toMatchObject({
      ok: true,
      exit: 'ok',
      secrets: [{ secret: 'a', oldKey: 'dead' }],
    });
    const [row] = json['secrets'] as { mintedAt: number; swappedAt: number; deadAt: number }[];
    expect(row?.mintedAt).toBeLessThanOrEqual(row?.swappedAt ?? 0);
    expect(row?.swappedAt).toBeLessThanOrEqual(row?.deadAt ?? 0);
    const markdown = await rotate(['--now', 'a', '--yes', '--markdown']);
    expect(markdown.out).toContain('| secret | rotation | old key |');
  });

  test('--now on a secret that never had a key ends nothing, says so, and is done', async () => {
    policy('a');
    const first = await rotate(['--now', 'a', '--yes']);
    expect(first.code, first.err).toBe(0);
    expect(first.out).toMatch(/^There was no old key to end/);
    expect(first.out).toMatch(/^a +none /m);
    const second = await rotate(['--now', 'a', '--yes']);
    expect(second.out).toMatch(/^1 of 1 old key dead/);
  });

  test('--now asks at a terminal, and without one needs --yes', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const piped = await rotate(['--now', 'a']);
    expect(piped.code).toBe(3);
    expect(piped.err).toContain('There is no terminal');
    expect((await rotate(['--now', 'a'], { in: true, typed: ['no'] })).code).toBe(3);
    expect((await rotate(['history', '--json'])).json()['rotations']).toHaveLength(1);
    expect((await rotate(['--now', 'a'], { in: true, typed: ['yes'] })).code).toBe(0);
    expect((await rotate(['--now', '--yes'])).code).toBe(2);
  });

  test('a key that needs a person is exit 6, with the link, and counts as still live', async () => {
    operatorPolicy('search');
    const first = await rotate(['run', 'search', '--wait', '0s', '--json']);
    expect(first.code).toBe(6);
    const supplied = await rotate(['supply', 'search'], { stdin: 'first-value-of-the-key\n' });
    expect(supplied.code).toBe(0);
    expect(supplied.out + supplied.err).not.toContain('first-value');
    const now = await rotate(['--now', 'search', '--yes', '--wait', '1s']);
    expect(now.code).toBe(6);
    expect(now.err).toContain('1 old key will live until a person has ended');
    expect(now.out).toMatch(
      /Still live until a person has done this, in this order:\n1\. search: /,
    );
    expect(now.out).toContain('https://issuer.example/keys');
    const typed = await rotate(['supply', 'search'], { in: true, typed: ['second-value-of-it'] });
    expect([0, 5, 6]).toContain(typed.code);
    const read = await rotate(['read', 'search', '--field', 'value']);
    expect(read.out).toBe('second-value-of-it');
  });

  test('supply takes nothing from arguments, nothing empty, and never repeats what came in', async () => {
    operatorPolicy('search');
    expect((await rotate(['supply', 'search', 'hunter2-in-argv'])).code).toBe(2);
    expect((await rotate(['supply', 'search'], { stdin: '\n' })).code).toBe(2);
    expect((await rotate(['supply', 'search'], { in: true, typed: [''] })).code).toBe(2);
    const wrong = await rotate(['supply', 'search', '--field', 'id', '--field', 'token'], {
      stdin: '{"id":"hunter2"}',
    });
    expect(wrong.code).toBe(2);
    expect(wrong.out + wrong.err).not.toContain('hunter2');
    const many = await rotate(['supply', 'search', '--field', 'id', '--field', 'token'], {
      stdin: '{"id":"me","token":"hunter2-token"}',
    });
    expect(many.code, many.err).not.toBe(2);
  });

  test('read prints to a pipe, to a terminal only with --reveal, and leaves an audit line', async () => {
    policy('a');
    await rotate(['run', 'a']);
    expect((await rotate(['read', 'a'], { out: true })).code).toBe(3);
    const value = (await rotate(['read', 'a', '--field', 'value'])).out;
    expect(value).toMatch(/^[\w-]{43}$/);
    expect((await rotate(['read', 'a', '--reveal'], { out: true })).out).toContain(value);
    expect((await rotate(['read', 'a', '--json'])).json()).toMatchObject({ fields: { value } });
    expect((await rotate(['read', 'a', '--field', 'nope'])).code).toBe(3);
    const audit = await rotate(['audit', 'a']);
    expect(audit.out).toContain('command.read');
    expect(audit.out).not.toContain(value);
  });

  test('pause stops the schedule, resume starts it, and both say why in the audit', async () => {
    policy('a');
    await rotate(['run', 'a']);
    expect((await rotate(['pause', 'a', '--reason', 'holidays'])).code).toBe(0);
    const paused = await rotate(['status']);
    expect(paused.out).toContain('paused');
    expect(paused.out).toContain('rotate resume a');
    expect((await rotate(['resume', 'a'])).code).toBe(0);
    expect((await rotate(['status'])).out).not.toContain('paused');
    expect((await rotate(['audit'])).out).toContain('(holidays)');
  });

  test('who is behind sudo is claimed, not proven', async () => {
    policy('a');
    await rotate(['run', 'a'], { env: { SUDO_USER: 'bob' } });
    expect((await rotate(['audit'])).out).toContain('by bob?');
  });

  test('what is refused says why, with its code and the next step', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const unknown = await rotate(['run', 'nope']);
    expect(unknown.code).toBe(3);
    expect(unknown.err).toMatch(/policy-unknown\)\nNext: /);
    expect((await rotate(['abandon', 'a'])).code).toBe(3);
    expect((await rotate(['rollback', 'a'])).code).toBe(3);
    const json = await rotate(['run', 'nope', '--json']);
    expect(json.json()).toMatchObject({ ok: false, error: { code: 'policy-unknown' } });
  });

  test('a failed rotation is exit 4 and leaves the old credential', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const before = (await rotate(['read', 'a', '--field', 'value'])).out;
    policy(
      'a',
      '    failure: { attempts: 1, pauseAfter: 9 }\n    verify:\n      - exec: { command: ["false"] }\n',
    );
    const failed = await rotate(['run', 'a']);
    expect(failed.code, failed.out + failed.err).toBe(4);
    expect((await rotate(['read', 'a', '--field', 'value'])).out).toBe(before);
  });

  test('an old key that its issuer will not end is exit 5, and is named as owed', async () => {
    const issuer = `
      import { readFileSync } from 'node:fs';
      const { call } = JSON.parse(readFileSync(0, 'utf8'));
      const value = String(process.pid);
      const answers = {
        mint: { ref: value, fields: { value } },
        verify: { ok: true },
        revoke: { error: { code: 'unavailable', effect: 'none' } },
      };
      console.log(JSON.stringify(answers[call]));
    `;
    writeFileSync(path.join(folder, 'schedules', 'issuer.mjs'), issuer, { mode: 0o600 });
    const command = JSON.stringify([process.execPath, './issuer.mjs']);
    writeFileSync(
      path.join(folder, 'schedules', 'a.yaml'),
      `secrets:\n  a:\n    provider: { use: exec, command: ${command}, crashClass: blind }\n    backend: local://a\n    every: 30d\n    grace: 0s\n`,
    );
    expect((await rotate(['run', 'a'])).code).toBe(0);
    const run = await rotate(['run', 'a']);
    expect(run.code, run.out + run.err).toBe(5);
    expect(run.out).toMatch(/owes|owed/);
    const now = await rotate(['--now', 'a', '--yes', '--wait', '0s', '--json']);
    expect(now.code, now.out + now.err).toBe(5);
    expect(now.json()).toMatchObject({ ok: false, exit: 'debts' });
  });

  test('a daemon that says hello and then nothing is exit 7', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const state = path.join(folder, '.local/state/rotated');
    const socket = controlSocketPath(state);
    prepareSocketFolder(socket);
    const mute = createServer((line) => {
      cleanups.push(() => line.destroy());
      line.write(`${JSON.stringify({ rotated: '0', control: controlVersion, pid: 1 })}\n`);
    });
    await new Promise<void>((resolve) => mute.listen(socket, resolve));
    cleanups.push(() => mute.close());
    const asked = await rotate(['status']);
    expect(asked.code, asked.out + asked.err).toBe(7);
    expect(asked.err).toContain('daemon-silent');
  });

  test('rollback within the grace brings the old credential back', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const before = (await rotate(['read', 'a', '--field', 'value'])).out;
    expect((await rotate(['run', 'a', '--wait', '0s'])).code).toBe(0);
    expect((await rotate(['read', 'a', '--field', 'value'])).out).not.toBe(before);
    const back = await rotate(['rollback', 'a']);
    expect(back.code, back.out + back.err).toBe(0);
    expect(back.out).toContain('rolled-back');
    // Somebody wanted it: no error code stands behind it.
    expect(back.out).toMatch(/^ {2}rolled back on request$/m);
    expect((await rotate(['read', 'a', '--field', 'value'])).out).toBe(before);
  });

  test('a watch as JSON is a line at each change, and growing older is none', async () => {
    policy('a');
    await rotate(['run', 'a']);
    const stop = new AbortController();
    let looks = 0;
    const sleep = async () => {
      looks += 1;
      if (looks === 3) await rotate(['pause', 'a']);
      if (looks === 6) stop.abort();
    };
    const watched = await rotate(['status', '--watch', '--json'], { sleep, signal: stop.signal });
    const lines = watched.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { secrets: { paused: unknown }[] });
    expect(lines.map(({ secrets }) => secrets[0]?.paused !== null)).toEqual([false, true]);
  });

  test('looking at what was never started says how to start it', async () => {
    policy('a');
    const status = await rotate(['status']);
    expect(status.code).toBe(3);
    expect(status.err).toContain('state-missing');
    // A plan needs no state: it says what would be done.
    expect((await rotate(['plan'])).out).toContain('promoted');
    expect(readdirSync(folder)).toEqual(['schedules']);
  });
});

describe('init, schema, check and doctor', () => {
  test('init writes what --check finds right, and the second time changes nothing', async () => {
    rmSync(path.join(folder, 'schedules'), { recursive: true });
    const first = await rotate(['init', '--json']);
    expect(first.code).toBe(0);
    const { made } = first.json() as { made: string[] };
    expect(made.map((file) => path.relative(folder, file)).toSorted()).toEqual([
      '.config/rotated/key',
      'schedules/.policy.schema.json',
      'schedules/first.yaml',
    ]);
    const contents = () => made.map((file) => readFileSync(file, 'utf8'));
    const before = contents();
    expect((await rotate(['init'])).out).toContain('nothing was changed');
    expect(contents()).toEqual(before);
    const check = await rotate(['--check', '--json'], { program: 'rotated' });
    expect(check.json()).toMatchObject({ ok: true, policies: 1, problems: [] });
    expect((await rotate(['run', 'first-token'])).code).toBe(0);
  });

  test('--check shows every mistake with its place, and makes nothing', async () => {
    writeFileSync(path.join(folder, 'schedules', 'x.yaml'), 'secrets:\n  a:\n    providr: {}\n');
    const check = await rotate(['--check'], { program: 'rotated' });
    expect(check.code).toBe(3);
    expect(check.out).toContain('x.yaml:3:');
    expect(readdirSync(folder)).toEqual(['schedules']);
  });

  test('--check refuses a key file that others can read', async () => {
    policy('a');
    await rotate(['init']);
    const { chmodSync } = await import('node:fs');
    chmodSync(path.join(folder, '.config/rotated/key'), 0o644);
    const check = await rotate(['serve', '--check']);
    expect(check.code).toBe(3);
    expect(check.out).toContain('key-unsafe');
  });

  test('schema is JSON Schema', async () => {
    expect((await rotate(['schema'])).json()).toHaveProperty('$schema');
  });

  test('doctor says that no daemon runs, what is paused, and that the audit is whole', async () => {
    policy('a');
    await rotate(['run', 'a']);
    await rotate(['pause', 'a']);
    const doctor = await rotate(['doctor', '--json']);
    const names = (doctor.json()['findings'] as { name: string }[]).map((one) => one.name);
    expect(names).toEqual(expect.arrayContaining(['node', 'daemon-absent', 'paused', 'audit']));
    expect(doctor.code).toBe(0);
  });
});
