/** Audit sinks with the real programs: what reaches them, what a sink that is down costs, and what they show afterwards. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runProgram, startDaemon } from '../../test/support/rotated.ts';
import { parseExport } from '../audit/export.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

let folder = '';
let places: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'audit-sinks-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(at('schedules'));
  writeFileSync(
    at('schedules/a.yaml'),
    'secrets:\n  first:\n    provider: { use: generated, kind: random }\n    backend: local://first\n    every: 30d\n    grace: 0s\n',
  );
  places = ['--state', at('state'), '--policies', at('schedules'), '--key', at('key')];
});

const at = (name: string) => path.join(folder, name);
const kept = (name: string) => parseExport(readFileSync(at(name), 'utf8'));
const rotate = (...args: string[]) => runProgram('rotate', [...args, ...places]);

function daemon(...args: string[]) {
  const started = startDaemon([...args, ...places]);
  cleanups.push(() => started[Symbol.asyncDispose]());
  return started;
}

/** A command of the kind an operator writes: appends its stdin to a file. */
function shipper(name: string): string {
  const program = at('ship.mjs');
  writeFileSync(
    program,
    "import { appendFileSync, readFileSync } from 'node:fs';\nappendFileSync(process.argv[2], readFileSync(0));\n",
  );
  return `exec:${process.execPath} ${program} ${at(name)}`;
}

describe('a daemon with sinks', () => {
  test('sends every line to a file and a command, and signs where it stopped', async () => {
    const running = daemon('--audit-sink', `file:${at('a.jsonl')}`, '--audit-sink', shipper('b'));
    await running.said('ready');
    expect((await rotate('run', 'first')).code).toBe(0);
    expect(await running.stop()).toBe(0);
    const { lines } = JSON.parse((await rotate('audit', '--json', '--most', '1000')).out) as {
      lines: { seq: number; mac: string }[];
    };
    for (const name of ['a.jsonl', 'b']) {
      const copy = kept(name);
      expect(copy.lines.map(({ seq, mac }) => ({ seq, mac }))).toEqual(
        lines.map(({ seq, mac }) => ({ seq, mac })),
      );
      expect(copy.checkpoints.at(-1)?.seq).toBe(lines.at(-1)?.seq);
    }
    // Commands find the sinks of the last daemon by themselves, and deliver what they write.
    expect((await rotate('run', 'first', '--reason', 'after hours')).code).toBe(0);
    expect(kept('a.jsonl').lines.length).toBeGreaterThan(lines.length);
    expect(readFileSync(at('a.jsonl'), 'utf8')).toContain('after hours');
    const verified = await rotate('audit', 'verify');
    expect(verified.code, verified.err).toBe(0);
    expect(verified.out).toMatch(/a\.jsonl holds the same \d+ lines, \d+ checkpoints\./);
    expect(verified.out).toMatch(/not compared\. A command keeps it/);
    const copy = await rotate('audit', 'verify', '--file', at('b'));
    expect(copy.code, copy.err).toBe(0);
    expect(copy.out).toContain(`${at('state')} says the same`);
    // Offline: the key alone.
    const offline = ['--state', at('nowhere'), '--key', at('key')];
    const alone = await runProgram('rotate', ['audit', 'verify', '--file', at('b'), ...offline]);
    expect(alone.out).toMatch(
      /^\d+ lines, \d+ checkpoints: as this deployment wrote them\.\nNot c/,
    );
    const json = await rotate('audit', 'verify', '--json');
    expect(JSON.parse(json.out)).toMatchObject({ ok: true, sinks: [{ problem: null }, {}] });
  });

  test('rotates at its usual pace while a sink is down, says so everywhere, and catches up', async () => {
    const down = at('not-yet/a.jsonl');
    const running = daemon('--audit-sink', `file:${down}`, '--listen', '127.0.0.1:0');
    const { health } = await running.said('ready');
    const run = await rotate('run', 'first', '--json');
    expect(JSON.parse(run.out)).toMatchObject({ secrets: [{ rotation: { phase: 'retired' } }] });
    await running.said('audit lines not delivered');
    expect((await rotate('status')).out).toMatch(
      /! Audit sink file:\S+\/a\.jsonl fails since [\s\S]*ENOENT/,
    );
    const metrics = async () => (await fetch(`http://${String(health)}/metrics`)).text();
    expect(await metrics()).toMatch(/rotated_audit_sink_failing\{sink="file:[^"]+"\} 1\n/);
    expect(await metrics()).toMatch(/rotated_audit_sink_behind_lines\{sink="file:[^"]+"\} [1-9]/);
    mkdirSync(path.dirname(down));
    await running.said('audit lines delivered again');
    expect(await metrics()).toMatch(/rotated_audit_sink_failing\{sink="file:[^"]+"\} 0\n/);
    await running.stop();
    expect((await rotate('audit', 'verify')).out).toContain('a.jsonl holds the same');
  }, 90_000);

  test('a stop is not held up by a command that hangs, and a command says what is not there yet', async () => {
    const hangs = `exec:${process.execPath} -e setInterval(String,1e6)`;
    const refused = await rotate('status', '--state', at('state'));
    expect(refused.code).toBe(3);
    const usage = await runProgram('rotated', ['--audit-sink', hangs, ...places]);
    expect(usage.code).toBe(2);
    expect(usage.err).toContain('exec:["ship-audit"');
    const command = JSON.stringify([process.execPath, '-e', 'setInterval(String,1e6)']);
    const running = daemon('--audit-sink', `exec:${command}`);
    await running.said('ready');
    const before = performance.now();
    expect(await running.stop()).toBe(0);
    // The command itself would be given 30 s.
    expect(performance.now() - before).toBeLessThan(25_000);
    const ran = await rotate('run', 'first');
    expect(ran.code).toBe(0);
    expect(ran.err).toMatch(/\d+ audit lines not at exec:\S+ yet/);
    expect((await rotate('status')).out).toMatch(/! \d+ audit lines wait for the sink exec:/);
    const none = daemon('--audit-sink', 'none');
    await none.said('ready');
    await none.stop();
    expect((await rotate('status')).out).not.toContain('!');
    expect((await rotate('audit')).out).toMatch(/audit\.sinks .*"removed=|audit\.sinks .*removed=/);
  }, 90_000);
});

describe('a state that is not what it was', () => {
  async function history(times: number): Promise<void> {
    const running = daemon('--audit-sink', `file:${at('a.jsonl')}`, '--audit-sink', shipper('b'));
    await running.said('ready');
    for (let time = 0; time < times; time++) await rotate('run', 'first');
    await running.stop();
  }

  /** With modes and owners, as a backup would. */
  const copy = (from: string, to: string) => execFileSync('cp', ['-a', at(from), at(to)]);
  const swapState = (from: string) => {
    rmSync(at('state'), { recursive: true });
    copy(from, 'state');
  };

  test('an old copy put back shows at once in the log, and in every verification', async () => {
    await history(1);
    copy('state', 'old');
    await history(1);
    swapState('old');
    expect((await rotate('audit', 'verify', '--file', at('b'))).err).toMatch(/set back or cut/);
    const verified = await rotate('audit', 'verify');
    expect(verified.code, verified.err).toBe(1);
    expect(verified.err).toMatch(/audit-broken/);
    const running = daemon();
    expect(await running.said('audit lines not delivered')).toMatchObject({ code: 'audit-broken' });
    // It never blocks a rotation.
    expect((await rotate('run', 'first')).code).toBe(0);
    expect((await rotate('doctor')).code).toBe(3);
    expect(JSON.parse((await rotate('status', '--json')).out)).toMatchObject({
      warnings: [expect.stringContaining('set back or rewritten')],
    });
    await running.stop();
    // The evidence stays as it was.
    expect((await rotate('audit', 'verify', '--file', at('b'))).code).toBe(1);
  }, 90_000);

  test('a history forged as a whole by someone with the key file, but not the sinks, shows', async () => {
    await history(1);
    const record = readFileSync(at('state/deployment.json'));
    const forged = ['--state', at('forged'), '--policies', at('schedules'), '--key', at('key')];
    for (let time = 0; time < 2; time++) {
      expect((await runProgram('rotate', ['run', 'first', ...forged])).code).toBe(0);
    }
    // By itself it is whole: the forger had the key.
    expect((await runProgram('rotate', ['audit', 'verify', ...forged])).code).toBe(0);
    swapState('forged');
    writeFileSync(at('state/deployment.json'), record);
    const verified = await rotate('audit', 'verify');
    expect(verified.code).toBe(1);
    expect(verified.err).toMatch(/Its line 1 is another than that of the state/);
    const outside = await rotate('audit', 'verify', '--file', at('b'), '--json');
    expect(JSON.parse(outside.out)).toMatchObject({
      error: { code: 'audit-broken', message: expect.stringContaining('The copy is whole') },
    });
  }, 90_000);
});
