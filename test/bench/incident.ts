/** `bench -- incident`: a thousand leaked keys replaced at once, against the same issuer calls made by nobody in particular. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock, systemRandom } from '../../src/clock.ts';
import type { ProviderSession } from '../../src/provider/provider.ts';
import { createRegistry } from '../../src/provider/registry.ts';
import type { CheckContext } from '../support/check.ts';
import { startProgram } from '../support/program.ts';
import { benchIssuer, type Verb } from './issuer.ts';
import { ask, everything, openRunning, type Running } from './running.ts';
import { openScene } from './scene.ts';
import { atMost, type Budget, budgetText, rounded } from './stats.ts';

export interface IncidentResult {
  readonly secrets: number;
  /** The same calls in the same order, as many at a time, without a machine around them. */
  readonly criticalPathMs: number;
  readonly tookMs: number;
  readonly ratio: number;
  /** Rotations that did not end as `retired`. */
  readonly failed: number;
  /** Keys that live at the issuer at the end beyond one for each secret. */
  readonly leftover: number;
  /** What one rotation asked the issuer, in order. */
  readonly calls: readonly Verb[];
  readonly budgets: readonly Budget[];
}

const latencyMs = 20;
const atOnce = 64;
/** What has not ended by then counts as failed. */
const patienceMs = 120_000;

export async function runIncident({
  args,
  progress,
}: CheckContext): Promise<{ ok: boolean } & IncidentResult> {
  const secrets = args.includes('--short') ? 128 : 1_000;
  await using scene = await openScene();
  const issuer = await startProgram(new URL('issuer-process.ts', import.meta.url), []);
  try {
    const url = `http://127.0.0.1:${issuer.port}`;
    const places = scene.places('incident');
    await writePolicies(places.policies, secrets, url);
    const verbs = new Map<string, Verb[]>();
    const provider = benchIssuer((account, verb) => {
      const list = verbs.get(account);
      if (list === undefined) verbs.set(account, [verb]);
      else list.push(verb);
    });
    const registry = createRegistry({ 'bench-issuer': async () => ({ default: provider }) });
    await using running = await openRunning(places, { registry });
    const { machine, journal } = running.deployment;
    await machine.run(everything, ask);
    await machine.tick(running.signal);
    progress(`${secrets} secrets have a first credential`);
    await delayOf(url, latencyMs);
    verbs.clear();
    const tookMs = await emergency(running, secrets);
    const calls = verbs.get('account-0') ?? [];
    const ended = await journal.history(null, secrets);
    const failed = secrets - ended.filter((row) => row.phase === 'retired').length;
    progress(
      `--now: ${Math.round(tookMs)} ms, ${failed} failed; each asked for ${calls.join(', ')}`,
    );
    const session = (account: string) =>
      provider.open(
        { url, account },
        {
          secret: account,
          admin: async () => ({}),
          clock: systemClock(),
          random: systemRandom(),
          directory: scene.root,
        },
      );
    const criticalPathMs = await bareCalls(secrets, calls, session);
    progress(`the bare calls: ${Math.round(criticalPathMs)} ms`);
    const leftover = (
      await Promise.all(Array.from({ length: secrets }, (_, index) => liveKeys(url, index)))
    ).filter((live) => live !== 1).length;
    const ratio = rounded(tookMs / criticalPathMs, 2);
    return {
      ok: failed === 0 && leftover === 0,
      secrets,
      criticalPathMs: Math.round(criticalPathMs),
      tookMs: Math.round(tookMs),
      ratio,
      failed,
      leftover,
      calls,
      budgets: [atMost('incident against the bare calls', 1.2, ratio)],
    };
  } finally {
    await issuer.end();
  }
}

export function incidentText(result: IncidentResult): string {
  return [
    `${result.secrets} secrets in ${result.tookMs} ms, ${result.ratio} × the bare calls (${result.criticalPathMs} ms); ${result.failed} failed`,
    ...result.budgets.map(budgetText),
  ].join('\n');
}

/** From the command to the last old key proven dead. */
async function emergency({ deployment, signal }: Running, secrets: number): Promise<number> {
  const { machine } = deployment;
  const ended = Promise.withResolvers<void>();
  let left = secrets;
  const unsubscribe = machine.subscribe((rotation) => {
    if (rotation.kind !== 'emergency' || rotation.endedAt === null) return;
    left--;
    if (left === 0) ended.resolve();
  });
  const stop = new AbortController();
  const serving = machine.serve(AbortSignal.any([signal, stop.signal]));
  const startedAt = performance.now();
  await machine.now(everything, 'continuity', ask);
  await Promise.race([ended.promise, serving, delay(patienceMs, undefined, { ref: false })]);
  const tookMs = performance.now() - startedAt;
  unsubscribe();
  stop.abort();
  await serving;
  return tookMs;
}

async function bareCalls(
  secrets: number,
  calls: readonly Verb[],
  open: (account: string) => Promise<ProviderSession>,
): Promise<number> {
  let next = 0;
  const startedAt = performance.now();
  const worker = async () => {
    while (next < secrets) {
      await using session = await open(`bare-${next++}`);
      await callAll(session, calls);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return performance.now() - startedAt;
}

async function callAll(session: ProviderSession, calls: readonly Verb[]): Promise<void> {
  const { signal } = new AbortController();
  const mint = {
    secret: 'bare',
    rotation: 'bare',
    generation: 1,
    current: null,
    name: 'bare',
    idempotencyToken: 'bare',
    inventory: [],
    prepared: null,
    predecessor: null,
  };
  let minted: { ref: string; fields: object } = { ref: 'none', fields: {} };
  for (const verb of calls) {
    switch (verb) {
      case 'check':
        await session.check(signal);
        break;
      case 'list':
        await Array.fromAsync(session.list?.(signal) ?? []);
        break;
      case 'mint':
        minted = await session.mint(mint, signal);
        break;
      case 'verify':
        await session.verify({ ref: minted.ref, fields: minted.fields as never }, signal);
        break;
      case 'revoke':
        await session.revoke('key-0', signal);
        break;
      default:
        verb satisfies never;
    }
  }
}

async function writePolicies(folder: string, count: number, url: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const text = Array.from(
    { length: count },
    (_, index) => `  leaked-${index}:
    provider: { use: bench-issuer, url: "${url}", account: account-${index} }
    backend: local://leaked/${index}
    schedule: manual
    grace: 1h
`,
  ).join('');
  await writeFile(path.join(folder, 'leaked.yaml'), `secrets:\n${text}`, { mode: 0o600 });
}

async function delayOf(url: string, delayMs: number): Promise<void> {
  await fetch(`${url}/control?delayMs=${delayMs}`);
}

async function liveKeys(url: string, index: number): Promise<number> {
  const answer = await fetch(`${url}/account-${index}/keys`);
  return ((await answer.json()) as unknown[]).length;
}
