/** The service as a real process: what it owns, how it stops, what happens to one that hangs. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type Daemon, runProgram, startDaemon } from '../../test/support/rotated.ts';
import { type ControlClient, reachControl } from '../control/client.ts';
import { controlSocketPath } from '../control/socket-path.ts';

const everything = { names: [], tags: [], providers: [], consumers: [], all: true };

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function scene(policy = policyText('first', '30d')) {
  const folder = mkdtempSync(path.join(tmpdir(), 'daemon-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const policies = path.join(folder, 'schedules');
  mkdirSync(policies);
  writeFileSync(path.join(policies, 'first.yaml'), policy);
  const state = path.join(folder, 'state');
  const args = ['--state', state, '--policies', policies, '--key', path.join(folder, 'key')];
  return { folder, policies, state, args };
}

function policyText(name: string, every: string): string {
  return `secrets:\n  ${name}:\n    provider: { use: generated, kind: random }\n    backend: local://${name}\n    every: ${every}\n    grace: 1s\n`;
}

function run(args: readonly string[]): Daemon {
  const daemon = startDaemon(args);
  cleanups.push(() => daemon[Symbol.asyncDispose]());
  return daemon;
}

const rotate = (places: readonly string[], args: readonly string[]) =>
  runProgram('rotate', [...args, ...places]);

async function asked<T>(state: string, ask: (client: ControlClient) => Promise<T> | T): Promise<T> {
  const reached = await reachControl(controlSocketPath(state));
  if (reached.kind !== 'connected') throw new Error(`not connected: ${reached.kind}`);
  try {
    return await ask(reached.client);
  } finally {
    reached.client.close();
  }
}

async function generationOf(state: string): Promise<number | undefined> {
  const status = await asked(state, ({ service }) => service.status(everything));
  return status.secrets[0]?.generation;
}

describe('the service', () => {
  test('rotates by its schedule and shows it on the socket, the health port and the metrics', async () => {
    const { state, args } = scene(policyText('first', '2s'));
    const daemon = run([...args, '--listen', '127.0.0.1:0']);
    const { health } = await daemon.said('ready');
    await expect.poll(() => generationOf(state)).toBeGreaterThan(1);
    expect(await daemon.said('rotation.promoted')).toMatchObject({
      secret: 'first',
      generation: 1,
    });
    expect(await daemon.said('debt.revoke.paid')).toMatchObject({ secret: 'first', by: 'rotated' });
    const get = (place: string) => fetch(`http://${String(health)}${place}`);
    expect((await get('/healthz')).status).toBe(200);
    expect((await get('/readyz')).status).toBe(200);
    const metrics = await (await get('/metrics')).text();
    expect(metrics).toMatch(/rotated_secret_generation\{secret="first"\} [2-9]/);
    expect(metrics).toMatch(/rotated_rotations_ended_total\{phase="retired",kind="\w+"\} [1-9]/);
  });

  test('stops in order at SIGTERM: exit 0, socket gone, and the next start goes on at once', async () => {
    const { state, args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    daemon.child.kill('SIGTERM');
    expect(await daemon.exit()).toBe(0);
    await daemon.said('stopped');
    expect(existsSync(controlSocketPath(state))).toBe(false);
    const next = run(args);
    await next.said('ready');
    expect(next.lines.some((line) => line.message.startsWith('waiting'))).toBe(false);
  });

  test('killed with SIGKILL, the next start needs no waiting and no cleaning up', async () => {
    const { state, args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    daemon.child.kill('SIGKILL');
    await daemon.exit();
    expect(existsSync(controlSocketPath(state))).toBe(true);
    const next = run(args);
    await next.said('ready');
    await expect.poll(() => generationOf(state)).toBe(1);
  });

  test('a second one is refused and names the first', async () => {
    const { args } = scene();
    const first = run(args);
    await first.said('ready');
    const second = run(args);
    expect(await second.exit()).toBe(3);
    expect(second.errors()).toContain(`process ${first.child.pid}`);
    expect(second.errors()).toContain('state-busy');
    expect(first.child.exitCode).toBe(null);
  });

  test('one that hangs is taken over; when it wakes up it stops and leaves the new one alone', async () => {
    const { state, args } = scene();
    const hung = run(args);
    await hung.said('ready');
    hung.child.kill('SIGSTOP');
    const next = run(args);
    expect(await next.said('took the state directory over')).toMatchObject({ pid: hung.child.pid });
    await next.said('ready');
    hung.child.kill('SIGCONT');
    expect(await hung.exit()).toBe(1);
    expect(hung.errors()).toContain('fence-lost');
    expect(await asked(state, ({ hello }) => hello.pid)).toBe(next.child.pid);
  });

  test('rotate asks it through the socket, and every line names who asked and why', async () => {
    const { args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    const rotated = await rotate(args, ['run', 'first', '--reason', 'by hand', '--json']);
    expect(rotated.code, rotated.err).toBe(0);
    expect(rotated.err).not.toContain('No daemon');
    const now = await rotate(args, ['--now', '--all', '--yes', '--json', '--reason', 'leaked']);
    expect(JSON.parse(now.out)).toMatchObject({ ok: true, secrets: [{ oldKey: 'dead' }] });
    const audit = await rotate(args, ['audit', '--json']);
    const { lines } = JSON.parse(audit.out) as {
      lines: { event: { actor: { channel: string; proven: boolean }; reason: string | null } }[];
    };
    const asked = lines.filter(({ event }) => event.reason === 'leaked');
    expect(asked.length).toBeGreaterThan(0);
    expect(asked.every(({ event }) => event.actor.channel === 'socket' && event.actor.proven)).toBe(
      true,
    );
    expect((await rotate(args, ['audit', 'verify'])).code).toBe(0);
  });

  test('rotate --now works past one that hangs, says so with its pid, and status works meanwhile', async () => {
    const { args } = scene();
    const hung = run(args);
    await hung.said('ready');
    await rotate(args, ['run', 'first']);
    hung.child.kill('SIGSTOP');
    const status = await rotate(args, ['status']);
    expect(status.code).toBe(0);
    expect(status.err).toContain('does not answer');
    const now = await rotate(args, ['--now', 'first', '--yes', '--json']);
    expect(now.code, now.err).toBe(0);
    expect(now.err).toContain(`process ${hung.child.pid}`);
    expect(JSON.parse(now.out)).toMatchObject({ ok: true, secrets: [{ oldKey: 'dead' }] });
    hung.child.kill('SIGCONT');
    expect(await hung.exit()).toBe(1);
    expect((await rotate(args, ['audit', 'verify'])).code).toBe(0);
  });

  test('an edit is picked up live, and a broken file leaves the last good policies running', async () => {
    const { state, policies, args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    const names = async () => {
      const { secrets } = await asked(state, ({ service }) => service.status(everything));
      return secrets.map((one) => one.secret).sort();
    };
    writeFileSync(path.join(policies, 'second.yaml'), policyText('second', '30d'));
    await expect.poll(names).toEqual(['first', 'second']);
    writeFileSync(path.join(policies, 'first.yaml'), 'secrets: [oh no');
    const warning = await daemon.said('about the policies');
    expect(String(warning['warning'])).toContain('first.yaml:1');
    expect(await names()).toEqual(['first', 'second']);
  });

  test('SIGHUP reads the policies again', async () => {
    const { args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    const before = daemon.lines.filter((line) => line.message === 'policies in use').length;
    daemon.child.kill('SIGHUP');
    const inUse = () => daemon.lines.filter((line) => line.message === 'policies in use').length;
    await expect.poll(inUse).toBe(before + 1);
  });

  test('SIGUSR1 does not open the inspector', async () => {
    const { state, args } = scene();
    const daemon = run(args);
    await daemon.said('ready');
    daemon.child.kill('SIGUSR1');
    // An answer after the signal shows that it was dealt with.
    await generationOf(state);
    expect(daemon.errors()).not.toContain('Debugger');
  });

  test('a policy folder that is not there keeps it from starting', async () => {
    const { args } = scene();
    const daemon = run([...args, '--policies', '/nowhere/at/all']);
    expect(await daemon.exit()).toBe(3);
    expect(daemon.errors()).toContain('/nowhere/at/all');
  });
});
