import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, createConnection, createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test, vi } from 'vitest';
import { systemClock, systemRandom } from '../clock.ts';
import { newInstance } from '../gate/feed/identity.ts';
import { feedVersion, lineOf } from '../gate/feed/protocol.ts';
import { defaultSettings } from '../gate/settings.ts';
import { createHub } from '../hub/hub.ts';
import type { ConsumerSpec, ReportSpec, SignalSpec } from '../policy/policy.ts';
import { createRedactor } from '../secret/redactor.ts';
import { Secret } from '../secret/secret.ts';
import type { Change, SecretReader } from './consumer.ts';
import {
  type BuildOptions,
  type ConsumerSubject,
  type Need,
  consumerContract,
  type SeenReload,
} from './contract.ts';
import { createConsumer } from './create.ts';
import type { GateFeed } from './gate.ts';
import { systemProcesses } from './processes.ts';
import { createReloadHandler } from './receiver.ts';
import { signatureHeader, signReport } from './signature.ts';

const canary = 'canary-5d1f0b77c2e84a';
const key = 'a-key-of-more-than-sixteen-bytes';
const usualTimeoutMs = 20_000;
const changes: readonly [Change, Change] = [
  { secret: 'reports-db', generation: 7, stage: 'current' },
  { secret: 'search', generation: 3, stage: 'current' },
];
const changesOfOne: readonly [Change, Change] = [
  { secret: 'reports-db', generation: 6, stage: 'current' },
  { secret: 'reports-db', generation: 7, stage: 'current' },
];

/** What all subjects share: a folder, and how a spec becomes a consumer. */
async function workshop() {
  const directory = await mkdtemp(join(tmpdir(), 'rotated-consumer-'));
  const backend: { read: SecretReader['read'] } = {
    read: async () => [{ generation: 7, fields: { password: new Secret(canary) } }],
  };
  type Kind = ConsumerSpec extends infer Each
    ? Each extends ConsumerSpec
      ? Omit<Each, 'role' | 'report' | 'timeoutMs'>
      : never
    : never;
  return {
    directory,
    backend,
    build: (kind: Kind, report: ReportSpec, options: BuildOptions = {}, gate?: GateFeed) =>
      createConsumer(
        {
          ...kind,
          role: options.role ?? 'user',
          report: options.report === 'none' ? null : report,
          timeoutMs: options.timeoutMs ?? usualTimeoutMs,
        },
        {
          directory,
          read: { read: (...given) => backend.read(...given) },
          resolveReference: async () => ({ key: new Secret(key) }),
          clock: systemClock(),
          random: systemRandom(),
          redactor: createRedactor(),
          ...(gate === undefined ? {} : { gate }),
        },
      ),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

async function httpSubject(): Promise<ConsumerSubject> {
  const shop = await workshop();
  const seen: SeenReload[] = [];
  let hangs = false;
  let answerText = '';
  const handler = createReloadHandler({
    key,
    onReload: () => (hangs ? new Promise(() => undefined) : undefined),
    report: () => [],
  });
  const server: Server = createServer((request, response) => {
    if (request.method === 'GET') {
      // Signed whatever it says: the contract is about what a trusted server may say.
      const query = new URL(request.url ?? '', 'http://server').searchParams;
      const [nonce, secret] = [query.get('nonce') ?? '', query.get('secret') ?? ''];
      response.setHeader('content-type', 'application/json');
      response.setHeader(signatureHeader, signReport(key, nonce, secret, answerText));
      response.end(answerText);
      return;
    }
    if (request.method === 'POST') record(request, seen);
    handler.node(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/reload`;
  const kill = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  return {
    changes,
    canary,
    receivesValues: false,
    build: (options) =>
      shop.build(
        { kind: 'http', url, key: 'local://keys/reload' },
        { kind: 'http', url, key: 'local://keys/reload' },
        options,
      ),
    // The consumer returns when the server has answered, so everything has been seen.
    seen: async () => seen,
    kill,
    hang: async () => {
      hangs = true;
    },
    answer: async (text) => {
      answerText = text;
    },
    async [Symbol.asyncDispose]() {
      await kill();
      await shop.remove();
    },
  };
}

function record(request: IncomingMessage, seen: SeenReload[]): void {
  let body = '';
  request.on('data', (chunk: Buffer) => {
    body += chunk.toString();
  });
  request.on('end', () => {
    const parsed = JSON.parse(body) as { changes: Change[] };
    const everything = JSON.stringify([request.url, request.rawHeaders, body]);
    seen.push({ changes: parsed.changes, everything });
  });
}

async function execSubject(): Promise<ConsumerSubject> {
  const shop = await workshop();
  const path = (name: string) => join(shop.directory, name);
  const script = async (name: string, body: string) => {
    await writeFile(path(name), `#!${process.execPath}\n${body}`);
    await chmod(path(name), 0o700);
  };
  await script(
    'reload.cjs',
    `const fs = require('node:fs');
     if (fs.existsSync('hang')) setInterval(() => {}, 1000);
     else {
       const stdin = fs.readFileSync(0, 'utf8');
       const everything = JSON.stringify([process.argv, process.env, stdin]);
       fs.appendFileSync('log', JSON.stringify({ changes: JSON.parse(stdin).changes, everything }) + '\\n');
       console.log('${canary}');
       console.error('${canary}');
     }`,
  );
  await script('report.cjs', `process.stdout.write(require('node:fs').readFileSync('answer'));`);
  await appendFile(path('log'), '');
  return {
    changes,
    canary,
    receivesValues: false,
    build: (options) =>
      shop.build(
        { kind: 'exec', command: ['./reload.cjs', '--quiet'] },
        { kind: 'exec', command: ['./report.cjs'] },
        options,
      ),
    seen: async () => {
      const lines = (await readFile(path('log'), 'utf8')).split('\n').filter(Boolean);
      return lines.map((line) => JSON.parse(line) as SeenReload);
    },
    kill: () => rm(path('reload.cjs')),
    hang: () => writeFile(path('hang'), ''),
    answer: (text) => writeFile(path('answer'), text),
    [Symbol.asyncDispose]: shop.remove,
  };
}

/** A server that says what it sees at each SIGHUP, and has written a pidfile. */
async function reloadingProcess(directory: string) {
  const source = `
    const fs = require('node:fs');
    const see = () => {
      const file = fs.existsSync('secret.json') ? fs.readFileSync('secret.json', 'utf8') : '';
      process.send({ changes: null, everything: JSON.stringify([process.argv, process.env, file]) });
    };
    process.on('SIGHUP', see);
    process.on('disconnect', () => process.exit());
    fs.writeFileSync('server.pid', process.pid + '\\n', { mode: 0o600 });
    process.send('ready');
    setInterval(() => {}, 1000);`;
  const child: ChildProcess = spawn(process.execPath, ['-e', source], {
    cwd: directory,
    env: { PATH: process.env['PATH'] ?? '' },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const seen: SeenReload[] = [];
  let told: () => void = () => undefined;
  await once(child, 'message');
  child.on('message', (message) => {
    seen.push(message as SeenReload);
    told();
  });
  return {
    async seen(atLeast: number) {
      while (seen.length < atLeast) {
        // oxlint-disable-next-line no-loop-func -- one waiter at a time
        await new Promise<void>((resolve) => (told = resolve));
      }
      return seen;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}

const hangup: SignalSpec = {
  signal: 'SIGHUP',
  target: { kind: 'pidfile', path: 'server.pid' },
  owner: null,
};

async function signalSubject(): Promise<ConsumerSubject> {
  const shop = await workshop();
  const server = await reloadingProcess(shop.directory);
  return {
    changes,
    canary,
    receivesValues: false,
    build: (options) =>
      shop.build({ kind: 'signal', ...hangup }, { kind: 'file', path: 'generation.json' }, options),
    seen: server.seen,
    kill: server.stop,
    hang: null,
    answer: (text) => writeFile(join(shop.directory, 'generation.json'), text),
    async [Symbol.asyncDispose]() {
      await server.stop();
      await shop.remove();
    },
  };
}

async function fileSubject(): Promise<ConsumerSubject> {
  const shop = await workshop();
  const server = await reloadingProcess(shop.directory);
  return {
    changes: changesOfOne,
    canary,
    receivesValues: true,
    build: (options) =>
      shop.build(
        {
          kind: 'file',
          path: 'secret.json',
          format: 'json',
          template: null,
          mode: 0o600,
          then: hangup,
        },
        { kind: 'file', path: 'generation.json' },
        options,
      ),
    seen: server.seen,
    kill: () => rm(shop.directory, { recursive: true }),
    hang: async () => {
      shop.backend.read = (_secret, _stage, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error));
        });
    },
    answer: (text) => writeFile(join(shop.directory, 'generation.json'), text),
    async [Symbol.asyncDispose]() {
      await server.stop();
      await shop.remove();
    },
  };
}

/** The hub of a daemon, and the other end of a socket. */
async function gateSubject(): Promise<ConsumerSubject> {
  const shop = await workshop();
  const logged: unknown[] = [];
  const note = (...line: unknown[]) => void logged.push(line);
  const hub = createHub({
    version: '1.2.3',
    clock: systemClock(),
    log: { info: note, warn: note },
    processes: systemProcesses(() => systemClock().now()),
    redact: (text) => text,
    settings: () => defaultSettings,
    resolve: async () => ({
      values: [new Secret(canary)],
      generations: { 'reports-db': 7, search: 3 },
    }),
    secretsOf: () => ['reports-db', 'search'],
    remember: async () => {},
    forget: async () => {},
  });
  const socket = join(shop.directory, 'gate.sock');
  const server = createSocketServer((stream) => hub.accept(stream));
  server.listen(socket);
  await once(server, 'listening');
  // A shim as the hub sees it: what is said on the line, each word of it. The real one takes several words for one.
  const line = createConnection(socket);
  await once(line, 'connect');
  line.on('error', () => {});
  const seen: SeenReload[] = [];
  const welcome = Promise.withResolvers<void>();
  createInterface({ input: line }).on('line', (text) => {
    const { type } = JSON.parse(text) as { type: string };
    if (type === 'welcome') welcome.resolve();
    // Which generation it is, the instance learns from the values that it asks for.
    if (type === 'changed') seen.push({ changes: null, everything: text });
  });
  line.write(
    lineOf({
      type: 'hello',
      feed: feedVersion,
      instance: newInstance('reports', systemRandom()),
      server: 'reports',
      hash: 'h'.repeat(43),
      what: 'reports-mcp',
      references: ['local://mcp/reports'],
      held: null,
      status: null,
    }),
  );
  await welcome.promise;
  const kill = async () => {
    await hub.close();
    if (server.listening) server.close();
  };
  return {
    changes,
    canary,
    receivesValues: false,
    build: (options) =>
      shop.build(
        { kind: 'gate', server: 'reports', command: null, settings: {} },
        { kind: 'file', path: 'none' },
        { ...options, report: 'none' },
        hub,
      ),
    async seen(atLeast) {
      await vi.waitUntil(() => seen.length >= atLeast, { timeout: 30_000, interval: 5 });
      return seen;
    },
    kill,
    hang: null,
    answer: null,
    async [Symbol.asyncDispose]() {
      line.destroy();
      await kill();
      await shop.remove();
    },
  };
}

interface Subject {
  readonly make: () => Promise<ConsumerSubject>;
  /** Why this kind cannot do what a case needs. */
  readonly cannot?: Readonly<Partial<Record<Need, string>>>;
}

const subjects: Readonly<Record<string, Subject>> = {
  http: { make: httpSubject },
  exec: { make: execSubject },
  signal: { make: signalSubject, cannot: { hang: 'the kernel takes a signal at once' } },
  file: { make: fileSubject },
  gate: {
    make: gateSubject,
    cannot: {
      hang: 'telling is a line written to a stream of this process',
      answer: 'its instances are connected, and what each may say is checked message by message',
      silence: 'it always reports: the instances are connected to it',
    },
  },
};

for (const [kind, { make, cannot }] of Object.entries(subjects)) {
  describe(`the contract of consumers: ${kind}`, () => {
    for (const { name, needs, run } of consumerContract) {
      const reason = needs === undefined ? undefined : cannot?.[needs];
      if (reason !== undefined) {
        test.skip(`${name} (${reason})`);
        continue;
      }
      test.concurrent(name, async () => {
        await using subject = await make();
        await run(subject);
      });
    }
  });
}
