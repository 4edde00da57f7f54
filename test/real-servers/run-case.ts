/** One case from beginning to end: deploy, open sessions through `rotate wrap`, call without pause, rotate, count. */
import path from 'node:path';
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import type { Case } from './case.ts';
import { deploy, type Deployment } from './deployment.ts';
import { startLoad } from './load.ts';

export interface CaseResult {
  readonly server: string;
  readonly issuer: string;
  readonly backend: string;
  readonly rotations: number;
  readonly calls: number;
  readonly failed: number;
  readonly oldKeyUsesAfterRevoke: number;
}

/** Two sessions, so that a rotation is adopted only when both have swapped. */
const sessions = 2;
const callersEach = 4;
export const rotationsWanted = 3;
/** Before a rotation and after it: so that every credential is used, and a revoked one would be. */
const callsBetween = 200;
/** Of what servers and shims wrote for people, where calls failed. */
const textMost = 4_000;

const rotate = path.resolve(import.meta.dirname, '../../bin/rotate.js');

/**
 * `wrap`: as a client's config has it. `bare`: the server alone, with the first credential in its environment, as servers run
 * without this project; a check of the check, which must come out badly.
 */
export type Way = 'wrap' | 'bare';

export async function runCase(
  subject: Case,
  way: Way,
  progress: (line: string) => void,
): Promise<CaseResult> {
  await using deployment = await deploy(subject);
  progress(`${subject.server}: deployed, the first credential is made`);
  await using clients = new AsyncDisposableStack();
  const opened: Client[] = [];
  const said: string[] = [];
  for (let session = 0; session < sessions; session += 1) {
    const client = await open(subject, way, deployment, session, said);
    clients.defer(() => client.close());
    opened.push(client);
  }
  const load = startLoad(subject, opened, callersEach);
  clients.defer(() => load.stop());
  let rotations = 0;
  let usesAfterRevoke = 0;
  while (rotations < rotationsWanted) {
    await load.more(callsBetween);
    const old = subject.identityOf(await deployment.current());
    const before = load.calls();
    await deployment.rotate();
    subject.watch(old);
    rotations += 1;
    const now = subject.identityOf(await deployment.current());
    if (way === 'wrap') await answersFor(now, subject, opened);
    await load.more(callsBetween);
    usesAfterRevoke = await subject.usesAfterRevoke();
    progress(
      `${subject.server}: ${old} → ${now}, ${load.calls() - before} calls meanwhile, ` +
        `${load.inFlight()} in flight now, ${load.failed()} failed, ${usesAfterRevoke} uses of the old one`,
    );
  }
  await load.stop();
  for (const failure of load.failures) progress(`failed: ${failure}`);
  if (load.failures.length > 0) progress(`${said.join('').slice(-textMost)}\n${deployment.log()}`);
  return {
    server: subject.server,
    issuer: subject.issuer,
    backend: 'local',
    rotations,
    calls: load.calls(),
    failed: load.failed(),
    oldKeyUsesAfterRevoke: usesAfterRevoke,
  };
}

async function open(
  subject: Case,
  way: Way,
  deployment: Deployment,
  session: number,
  said: string[],
): Promise<Client> {
  const { command, env } = subject.launch;
  const shim = [process.execPath, rotate, 'wrap', '--server', subject.name];
  const [program = '', ...args] =
    way === 'bare' ? command : [...shim, '--state', deployment.state, '--', ...command];
  const values = way === 'bare' ? await deployment.current() : {};
  const client = new Client(
    { name: `agent-${session}`, version: '1.0.0' },
    // As clients do: they ask for the newer revision first, and take the older one where that is what the server speaks.
    { versionNegotiation: { mode: 'auto' } },
  );
  const transport = new StdioClientTransport({
    command: program,
    args,
    env: { PATH: process.env['PATH'] ?? '', ...env, ...values },
    stderr: 'pipe',
  });
  transport.stderr?.on('data', (chunk: Buffer) => said.push(chunk.toString()));
  await client.connect(transport);
  return client;
}

/** Every session is answered for the new credential: else the load would prove nothing. */
async function answersFor(
  wanted: string,
  subject: Case,
  clients: readonly Client[],
): Promise<void> {
  for (const client of clients) {
    const got = await subject.call(client, 1);
    if (got !== wanted) throw new Error(`${subject.server} answers for ${got}, not for ${wanted}.`);
  }
}
