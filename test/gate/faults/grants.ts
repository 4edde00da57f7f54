/** What a config may ask the real daemon for: nothing that was not granted, and admin credentials never. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { reachControl } from '../../../src/control/client.ts';
import { controlSocketPath } from '../../../src/control/socket-path.ts';
import { Secret } from '../../../src/secret/secret.ts';
import { startDaemon } from '../../support/rotated.ts';
import { createLedger } from '../load/ledger.ts';
import { plainDialect } from '../load/plain.ts';
import { readServerLog } from '../load/server-log.ts';
import { createSession } from '../load/session.ts';
import { checkoutRotate, type Command, launch, servers } from '../support/targets.ts';
import type { FaultCase } from './case.ts';
import { must, mustEqual, rejection, within } from './expect.ts';

const wanted = 'local://mcp/tool';
const admin = 'local://admin/issuer';
const value = 'handed-in-6fV0mKq2Yd';
const ask = {
  actor: { id: 'faults', channel: 'command', proven: false },
  reason: 'a check of grants',
} as const;

const policy = `
secrets:
  tool:
    provider: { use: operator, instructions: Hand it in. }
    backend: ${wanted}
    schedule: manual
  issuer-admin:
    provider: { use: operator, instructions: Hand it in. }
    backend: ${admin}
    schedule: manual
  made-by-issuer:
    provider: { use: exec, admin: "${admin}", command: [/bin/false], crashClass: token }
    backend: local://mcp/made
    schedule: manual
`;

export const grantCases: readonly FaultCase[] = [
  {
    name: 'a config that asks the daemon for a reference that is not granted',
    async run() {
      await using scene = await openScene();
      const refused = await scene.start(wanted, servers.bad);
      must(refused.served === null, 'It was served.');
      must(refused.told.includes('rotate allow'), `The next step is not told: ${refused.told}`);
      mustEqual(scene.serversStarted(), 0, 'Servers started without a grant');
      await scene.rotate(['allow', 'stranger', wanted, '--yes', '--', ...words(servers.bad)]);
      const granted = await scene.start(wanted, servers.bad);
      must(granted.served !== null, `Refused in spite of the grant: ${granted.told}`);
      const changed = { ...servers.bad, args: [...servers.bad.args, '--upload-everything'] };
      const other = await scene.start(wanted, changed);
      must(other.served === null, 'A changed command was served under the old grant.');
      mustEqual(scene.serversStarted(), 1, 'Servers started');
      return `refused: ${refused.told}; served once it was granted, refused again once its command had changed`;
    },
  },
  {
    name: 'a config that asks the daemon for an admin reference',
    async run() {
      await using scene = await openScene();
      const refused = await scene.start(admin, servers.bad);
      must(refused.served === null, 'It was served.');
      const allowing = await rejection(
        scene.rotate(['allow', 'stranger', admin, '--yes', '--', ...words(servers.bad)]),
      );
      const again = await scene.start(admin, servers.bad);
      must(again.served === null, 'It was served once somebody had allowed it.');
      mustEqual(scene.serversStarted(), 0, 'Servers started');
      must(
        !`${refused.told}${again.told}${allowing.message}`.includes(value),
        'Its value was told.',
      );
      return `refused: ${refused.told}; nobody can allow it either`;
    },
  },
];

async function openScene() {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-grants-'));
  const at = (name: string) => path.join(folder, name);
  await chmod(folder, 0o700);
  await mkdir(at('schedules'), { mode: 0o700 });
  await writeFile(at('schedules/case.yaml'), policy, { mode: 0o600 });
  const places = ['--state', at('state')];
  const daemon = startDaemon([...places, '--policies', at('schedules'), '--key', at('key')]);
  const dispose = async () => {
    await daemon.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await within('the daemon to be ready', daemon.said('ready'), 30_000);
    const reached = await reachControl(controlSocketPath(at('state')));
    if (reached.kind !== 'connected')
      throw new Error(`The daemon does not answer: ${daemon.errors()}`);
    for (const name of ['tool', 'issuer-admin']) {
      const { service } = reached.client;
      const { rotation, message } = await service.supply(name, { value: new Secret(value) }, ask);
      if (rotation === null)
        throw new Error(`${name} was not taken: ${message} ${JSON.stringify(daemon.lines)}`);
      for await (const progress of service.watch([rotation], 30_000, AbortSignal.timeout(30_000))) {
        if (progress.final !== null) break;
      }
    }
    reached.client.close();
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    serversStarted: () => readServerLog(at('calls.log')).starts.length,
    rotate: async (args: readonly string[]) => {
      await promisify(execFile)(process.execPath, [checkoutRotate, ...places, ...args]);
    },
    /** One client that starts `server` under the name `stranger`; what it got, or what it was told. */
    async start(asked: string, server: Command) {
      const transport = launch({
        relay: 'wrap',
        server,
        log: at('calls.log'),
        name: 'stranger',
        env: { API_KEY_REF: asked, ROTATED_STATE: at('state') },
      });
      const session = createSession(plainDialect('legacy'), transport, createLedger('g'));
      try {
        const failure = await within('an answer', session.open(), 30_000).then(
          () => null,
          (error: unknown) => (error instanceof Error ? error.message : String(error)),
        );
        const told = `${failure ?? ''} ${transport.stderr()}`.trim();
        return { served: failure === null ? transport : null, told };
      } finally {
        await session.close();
      }
    },
    [Symbol.asyncDispose]: dispose,
  };
}

function words({ command, args }: Command): readonly string[] {
  return [command, ...args];
}
