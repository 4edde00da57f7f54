/** The gate as a person would run it: the real daemon that holds the key, the real `rotated gate` before a fixture of each kind. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { runProgram, startDaemon } from '../support/rotated.ts';
import { type FixtureProcess, fixtureCommand, startFixture } from './fixture-process.ts';

export type Backing = 'http' | 'stdio';

export interface Gate extends AsyncDisposable {
  readonly state: string;
  urlOf(backing: Backing): string;
}

const reference = 'local://fixture/key#KEY';
const policy = `secrets:
  fixture:
    provider: { use: generated, kind: random }
    backend: ${reference}
    schedule: manual
`;

/** Both fixtures refuse whoever has not got the key: so what passes has had it from the daemon, by way of the gate. */
export async function startGate(): Promise<Gate> {
  await using made = new AsyncDisposableStack();
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-conformance-gate-'));
  made.defer(() => rm(folder, { recursive: true, force: true }));
  const at = (name: string) => path.join(folder, name);
  const places = ['--state', at('state'), '--policies', at('schedules'), '--key', at('key')];
  await mkdir(at('schedules'), { mode: 0o700 });
  await writeFile(path.join(at('schedules'), 'fixture.yaml'), policy, { mode: 0o600 });
  const daemon = made.use(startDaemon(places));
  // Whatever becomes of this process, what it started does not outlive it.
  const started = [daemon];
  const kill = () => started.map(({ child }) => child.kill('SIGKILL'));
  process.once('exit', kill);
  made.defer(() => void process.off('exit', kill));
  await daemon.said('ready');
  await rotate('run', 'fixture', ...places);
  const key = (await rotate('read', 'fixture', '--field', 'KEY', ...places)).trim();
  const fixture = made.use(await startFixture(key));
  await allow(fixture, places);
  const file = at('servers.json');
  await writeFile(file, JSON.stringify({ mcpServers: serversOf(fixture, key) }), { mode: 0o600 });
  const listen = ['--listen', '127.0.0.1:0', '--no-token', '--state', at('state')];
  const gate = made.use(startDaemon(['gate', '--servers', file, ...listen]));
  started.push(gate);
  const { address } = (await gate.said('ready')) as { address?: string };
  made.defer(async () => {
    await gate.stop();
    await daemon.stop();
  });
  const owned = made.move();
  return {
    state: at('state'),
    urlOf: (backing) => `${address}/fixture-${backing}/mcp`,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function serversOf({ url }: FixtureProcess, key: string): object {
  const [command, ...args] = fixtureCommand;
  return {
    'fixture-http': {
      type: 'http',
      url,
      headers: { Authorization: `Bearer {{${reference}}}` },
    },
    'fixture-stdio': {
      command,
      args,
      env: { FIXTURE_KEY_REF: reference, FIXTURE_WANTS_KEY: key },
    },
  };
}

async function allow({ url }: FixtureProcess, places: readonly string[]): Promise<void> {
  const common = [reference, '--yes', ...places];
  await rotate('allow', 'fixture-http', ...common, '--url', url);
  await rotate('allow', 'fixture-stdio', ...common, '--', ...fixtureCommand);
}

async function rotate(...args: readonly string[]): Promise<string> {
  const { code, out, err } = await runProgram('rotate', args);
  if (code !== 0) throw new Error(`rotate ${args.join(' ')} ended with ${code}:\n${out}${err}`);
  return out;
}
