/** What composing promises: where things are found, who owns a state, which values reach whom. */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock, systemRandom } from '../clock.ts';
import { fileKey } from '../secret/key-sources.ts';
import { Secret } from '../secret/secret.ts';
import { type Deployment, openDeployment } from './deployment.ts';
import { leaseTtlMs, renewEveryMs, takeOwnership } from './owner.ts';
import { findPlaces, recordPlaces } from './places.ts';

const random = systemRandom();
const log = { info: () => {}, warn: () => {}, error: () => {} };
const ask = { actor: { id: 'test', channel: 'policy', proven: true }, reason: null } as const;
const signal = new AbortController().signal;

let folder = '';
const cleanups: (() => unknown)[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'wiring-'));
  mkdirSync(path.join(folder, 'schedules'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Moves only when told: sleepers wake in order. */
function handClock(): Clock & { forward(ms: number): Promise<void> } {
  let nowMs = 0;
  const sleepers = new Set<{ at: number; wake: () => void }>();
  return {
    now: () => 1_800_000_000_000 + nowMs,
    monotonicMs: () => nowMs,
    bootId: 'boot',
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        const sleeper = { at: nowMs + ms, wake: resolve };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', () => {
          sleepers.delete(sleeper);
          reject(signal.reason as Error);
        });
      }),
    async forward(ms) {
      const end = nowMs + ms;
      for (;;) {
        const next = [...sleepers].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
        nowMs = Math.max(nowMs, next?.at ?? end);
        if (next !== undefined) {
          sleepers.delete(next);
          next.wake();
        }
        // The store answers over a turn of the real event loop.
        for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
        if (next === undefined) return;
      }
    },
  };
}

async function open(clock: Clock = systemClock(), create = true): Promise<Deployment> {
  const deployment = await openDeployment({
    state: path.join(folder, 'state'),
    policies: path.join(folder, 'schedules'),
    key: fileKey(path.join(folder, 'key'), { random, create }),
    log,
    clock,
    random,
  });
  cleanups.push(() => deployment[Symbol.asyncDispose]());
  return deployment;
}

describe('places', () => {
  const around = (env: Record<string, string>) => ({
    env: { HOME: folder, ...env },
    directory: folder,
  });

  test('what is said comes first, then the environment, then the usual places', () => {
    const usual = findPlaces({}, around({ XDG_STATE_HOME: '/x' }));
    expect(usual.state).toBe('/x/rotated');
    expect(usual.policies).toBe(path.join(folder, 'schedules'));
    expect(usual.key).toEqual({ kind: 'file', path: path.join(folder, '.config/rotated/key') });
    const systemd = findPlaces({}, around({ STATE_DIRECTORY: '/var/lib/a:/var/lib/b' }));
    expect(systemd.state).toBe('/var/lib/a');
    const env = { ROTATED_STATE: '/e', ROTATED_POLICIES: '/p', ROTATED_KEY_FILE: '/k' };
    expect(findPlaces({}, around(env))).toMatchObject({ state: '/e', policies: '/p' });
    const said = findPlaces({ state: 's', policies: '/q', key: 'k' }, around(env));
    expect(said).toMatchObject({ state: path.join(folder, 's'), policies: '/q' });
    expect(said.key).toEqual({ kind: 'file', path: path.join(folder, 'k') });
  });

  test('the state directory remembers what served it, so that another folder does not take its place', () => {
    const state = path.join(folder, 'state');
    mkdirSync(state);
    const first = findPlaces({ state, policies: '/etc/one', key: '/etc/key' }, around({}));
    recordPlaces(first);
    const later = findPlaces({ state }, around({}));
    expect(later).toMatchObject({ policies: '/etc/one', key: { kind: 'file', path: '/etc/key' } });
    expect(later.warnings).toHaveLength(1);
    expect(findPlaces({ state, policies: '/etc/two' }, around({})).policies).toBe('/etc/two');
    expect(statSync(path.join(state, 'deployment.json')).mode & 0o777).toBe(0o600);
  });

  test('audit sinks are said, from the environment, or those of the last owner; none ends them', () => {
    const state = path.join(folder, 'state');
    mkdirSync(state);
    const sinks = (auditSink: readonly string[], env: Record<string, string> = {}) =>
      findPlaces({ state, auditSink }, around(env));
    const env = { ROTATED_AUDIT_SINKS: 'file:a.jsonl; exec:ship --to x ;' };
    expect(sinks([]).auditSinks).toEqual([]);
    const named = sinks([], env);
    expect(named.auditSinks).toEqual([`file:${path.join(folder, 'a.jsonl')}`, 'exec:ship --to x']);
    recordPlaces(named);
    expect(sinks([]).auditSinks).toEqual(named.auditSinks);
    expect(sinks(['file:/b', 'file:/b'], env).auditSinks).toEqual(['file:/b']);
    expect(sinks(['none']).auditSinks).toEqual([]);
    expect(() => sinks(['none', 'file:/b'])).toThrow('"none" is no audit sink');
    recordPlaces(sinks(['none']));
    expect(sinks([]).auditSinks).toEqual([]);
  });
});

describe('owning', () => {
  const take = (deployment: Deployment, clock: Clock, onWait?: () => void) =>
    takeOwnership({
      journal: deployment.journal,
      clock,
      log,
      what: 'test',
      signal,
      ...(onWait === undefined ? {} : { onWait }),
    });

  test('an owner that renews keeps others out, and the error names it', async () => {
    const clock = handClock();
    const [first, second] = [await open(clock), await open(clock)];
    const owner = await take(first, clock);
    const refused = take(second, clock).catch((error: unknown) => error);
    await clock.forward(renewEveryMs + 500);
    expect(await refused).toMatchObject({ code: 'state-busy' });
    expect(String(await refused)).toContain(`process ${process.pid}`);
    await owner.release();
    const next = await take(second, clock);
    expect(next.takenFrom).toBe(null);
    await next.release();
  });

  test('an owner that hangs is taken over when its lease ends, not before, and notices', async () => {
    const [stopped, clock] = [handClock(), handClock()];
    const [first, second] = [await open(stopped), await open(clock)];
    const hung = await take(first, stopped);
    let waits = 0;
    const taking = take(second, clock, () => {
      waits += 1;
    });
    let taken = false;
    void taking.then(() => {
      taken = true;
    });
    await clock.forward(leaseTtlMs - 500);
    expect(taken).toBe(false);
    await clock.forward(1_000);
    const owner = await taking;
    expect(waits).toBe(1);
    expect(owner.takenFrom).toEqual({ pid: process.pid, what: 'test' });
    expect(owner.fence).toBeGreaterThan(hung.fence);
    await stopped.forward(renewEveryMs);
    expect(hung.lost.aborted).toBe(true);
    expect(hung.lost.reason).toMatchObject({ code: 'fence-lost' });
    // It must not end the lease of the one that took over.
    await hung.release();
    await expect(second.journal.assertFence(owner.fence)).resolves.toBeUndefined();
    await owner.release();
  });
});

describe('a deployment', () => {
  const policy = (name: string, text: string) =>
    writeFileSync(path.join(folder, 'schedules', `${name}.yaml`), `secrets:\n  ${name}:\n${text}`);
  const generated = (item: string) =>
    `    provider: { use: generated, kind: random }\n    backend: ${item}\n    every: 30d\n    grace: 1h\n`;

  async function owned(): Promise<Deployment> {
    const deployment = await open();
    const owner = await takeOwnership({
      journal: deployment.journal,
      clock: systemClock(),
      log,
      what: 'test',
      signal,
    });
    cleanups.push(() => owner.release());
    deployment.machine.own(owner.fence);
    return deployment;
  }

  test('rotates from files alone, and what it stores needs the key', async () => {
    policy('a', generated('local://a'));
    const deployment = await owned();
    expect(await deployment.usePolicies(ask)).toEqual([]);
    await deployment.machine.tick(signal);
    const { fields } = await deployment.machine.read('a', 'current', ask);
    expect(fields['value']?.reveal()).toHaveLength(43);
    for (const cleanup of cleanups.splice(1).reverse()) await cleanup();
    rmSync(path.join(folder, 'key'));
    await expect(open(systemClock(), false)).rejects.toMatchObject({ code: 'key-missing' });
    // A fresh key would make all that is sealed unreadable: it is refused before anything is changed.
    await expect(open(systemClock(), true)).rejects.toMatchObject({ code: 'key-unknown' });
  });

  test('mistakes come as text with their places, and stop no other policy', async () => {
    policy('a', generated('local://a'));
    policy('b', '    provider: { use: generatd }\n');
    const deployment = await owned();
    const warnings = await deployment.usePolicies(ask);
    expect(warnings.join('\n')).toMatch(/b\.yaml:3:/);
    expect(deployment.policyCount()).toBe(1);
  });

  test('a policy folder that vanishes leaves the policies that were in use', async () => {
    policy('a', generated('local://a'));
    const deployment = await owned();
    await deployment.usePolicies(ask);
    rmSync(path.join(folder, 'schedules'), { recursive: true });
    await expect(deployment.usePolicies(ask)).rejects.toMatchObject({ code: 'policy-invalid' });
    expect(deployment.policyCount()).toBe(1);
  });

  test('a reference resolves to what stands in current, one field where it names one', async () => {
    policy('a', generated('local://a'));
    const deployment = await owned();
    await deployment.usePolicies(ask);
    await deployment.machine.tick(signal);
    const value = (await deployment.machine.read('a', 'current', ask)).fields['value'];
    const { resolveReference } = deployment;
    const whole = await resolveReference('local://a', signal);
    expect(whole['value']?.equals(value ?? new Secret(''))).toBe(true);
    expect(Object.keys(await resolveReference('local://a#value', signal))).toEqual(['value']);
    await expect(resolveReference('local://a#nope', signal)).rejects.toMatchObject({
      code: 'not-found',
    });
    await expect(resolveReference('local://nope', signal)).rejects.toMatchObject({
      code: 'not-found',
    });
    await expect(resolveReference('vault://x/y', signal)).rejects.toMatchObject({
      code: 'unsupported',
    });
  });

  test('whatever was sealed or opened is kept out of the log', async () => {
    policy('a', generated('local://a'));
    const deployment = await owned();
    await deployment.usePolicies(ask);
    await deployment.machine.tick(signal);
    const { fields } = await deployment.machine.read('a', 'current', ask);
    const value = fields['value']?.reveal() ?? '';
    expect(deployment.redactor.redact(`it is ${value}!`)).toBe('it is [redacted]!');
  });

  test('a file consumer is written with the promoted value', async () => {
    const out = path.join(folder, 'out.json');
    policy(
      'a',
      `${generated('local://a')}    consumers:\n      - file: { path: ${out}, format: json }\n`,
    );
    const deployment = await owned();
    expect(await deployment.usePolicies(ask)).toEqual([]);
    await deployment.machine.tick(signal);
    const { readFileSync } = await import('node:fs');
    const { fields } = await deployment.machine.read('a', 'current', ask);
    expect(JSON.parse(readFileSync(out, 'utf8'))).toMatchObject({
      secret: 'a',
      generation: 1,
      fields: { value: fields['value']?.reveal() },
    });
  });
});
