/** `npm run conformance`: the published suite and the published inspector, directly and through the gate: the same, check by check. */
import path from 'node:path';
import { type CheckContext, runCheck } from '../support/check.ts';
import { compare, type Comparison } from './compare.ts';
import { stdioExcuses } from './excuses.ts';
import { fixtureCommand, startFixture } from './fixture-process.ts';
import { type Gate, startGate } from './gate-process.ts';
import { startHostHidingProxy } from './host-hiding-proxy.ts';
import { type ConfigEntry, inspect } from './inspector.ts';
import { type Revision, runSuite } from './suite.ts';

interface RevisionResult extends Omit<Comparison, 'excused'> {
  readonly revision: Revision;
}

const revisions: readonly Revision[] = ['2025-11-25', '2026-07-28'];
const rotate = path.resolve(import.meta.dirname, '../../bin/rotate.js');

// Ended early, it still takes its processes with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

await runCheck<{
  revisions: readonly RevisionResult[];
  inspector: { directExit: number; gateExit: number };
}>({
  name: 'conformance',
  async run(context) {
    await using fixture = await startFixture(null);
    await using gate = await startGate();
    const results: RevisionResult[] = [];
    for (const revision of revisions) {
      results.push(await runRevision(revision, fixture.url, gate, context));
    }
    const controlled = await controlFinds(fixture.url, context);
    const inspector = await runInspector(fixture.url, gate, context);
    const ok =
      controlled && inspector.directExit === 0 && inspector.gateExit === 0 && results.every(isGood);
    return { ok, revisions: results, inspector };
  },
  text: ({ revisions, inspector }) =>
    [
      ...revisions.map(
        ({ revision, checks, directPassed, gatePassed, differences }) =>
          `${revision}: ${checks} checks, ${directPassed} passed directly, ${gatePassed} through the gate` +
          differences.map((difference) => `\n  ${difference}`).join(''),
      ),
      `inspector: exit ${inspector.directExit} directly, ${inspector.gateExit} through the gate`,
    ].join('\n'),
});

function isGood({ checks, directPassed, gatePassed, differences }: RevisionResult): boolean {
  return (
    checks > 0 && directPassed === checks && gatePassed === directPassed && differences.length === 0
  );
}

/** The figures are those of the server over HTTP; what differs before a server by stdio is a difference all the same. */
async function runRevision(
  revision: Revision,
  url: string,
  gate: Gate,
  { progress }: CheckContext,
): Promise<RevisionResult> {
  const direct = await runSuite(revision, url);
  const http = compare(direct, await runSuite(revision, gate.urlOf('http')));
  progress(`${revision}, HTTP behind the gate: ${figures(http)}`);
  const excuses = stdioExcuses[revision];
  const stdio = compare(direct, await runSuite(revision, gate.urlOf('stdio')), excuses);
  progress(`${revision}, stdio behind the gate: ${figures(stdio)}`);
  for (const name of stdio.excused) {
    progress(`must differ: stdio behind the gate: ${name}: ${excuses[name] ?? ''}`);
  }
  const { checks, directPassed, gatePassed } = http;
  const differences = [
    ...http.differences,
    ...stdio.differences.map((difference) => `stdio behind the gate: ${difference}`),
  ];
  for (const difference of differences) progress(`differs: ${difference}`);
  return { revision, checks, directPassed, gatePassed, differences };
}

/** A proxy with a known fault: were it not found out, the comparison would be worth nothing. */
async function controlFinds(url: string, { progress }: CheckContext): Promise<boolean> {
  await using proxy = await startHostHidingProxy(url);
  const revision = revisions[0] as Revision;
  const { differences } = compare(
    await runSuite(revision, url),
    await runSuite(revision, proxy.url),
  );
  progress(`control, a proxy that hides the Host: ${differences.length} difference found`);
  return (
    differences.length === 1 && differences[0]?.startsWith('dns-rebinding-protection/') === true
  );
}

/** As a client's config would have it: each server directly, by `rotate wrap`, and at the gate. */
async function runInspector(
  url: string,
  gate: Gate,
  { progress }: CheckContext,
): Promise<{ directExit: number; gateExit: number }> {
  const [command = '', ...args] = fixtureCommand;
  const shim = [rotate, 'wrap', '--server', 'fixture', '--state', gate.state, '--'];
  const http = (at: string): ConfigEntry => ({ type: 'streamable-http', url: at });
  const exits = { directExit: 0, gateExit: 0 };
  for (const [of, what, entry] of [
    ['directExit', 'stdio', { command, args }],
    ['directExit', 'HTTP', http(url)],
    ['gateExit', 'wrap', { command: process.execPath, args: [...shim, ...fixtureCommand] }],
    ['gateExit', 'HTTP behind the gate', http(gate.urlOf('http'))],
    ['gateExit', 'stdio behind the gate', http(gate.urlOf('stdio'))],
  ] as const) {
    const { exit, problem } = await inspect(entry);
    progress(`inspector, ${what}: exit ${exit}${problem === null ? '' : `\n${problem}`}`);
    if (exits[of] === 0) exits[of] = exit;
  }
  return exits;
}

function figures({ checks, directPassed, gatePassed, differences, excused }: Comparison): string {
  return (
    `${checks} checks, ${directPassed} passed directly, ${gatePassed} through it, ` +
    `${differences.length} differences, ${excused.length} that must differ`
  );
}
