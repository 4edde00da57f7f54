/** What answers over HTTP with the echo server behind it: the server itself, the gate, and the bridges that others publish. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startProgram } from '../../support/program.ts';
import { freePort } from '../../support/servers/free-port.ts';
import { openHttp } from '../load/http.ts';
import { createLineSplitter } from '../load/lines.ts';
import { createLedger } from '../load/ledger.ts';
import { plainDialect } from '../load/plain.ts';
import { createSession, type Session } from '../load/session.ts';
import { reference, type TestFeed } from './feed.ts';
import { checkoutRotate, type Command, servers } from './targets.ts';

export interface HttpTarget {
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly pid?: number | undefined;
  end(): Promise<void>;
}

const readyWithinMs = 20_000;
const askEveryMs = 100;

export async function startDirect(): Promise<HttpTarget> {
  const program = await startProgram(new URL('../servers/echo-http.ts', import.meta.url), []);
  const { port, pid, end } = program;
  return { url: `http://127.0.0.1:${port}/mcp`, pid, end };
}

/** `npx mcp-proxy --port P -- COMMAND`, its defaults otherwise. */
export function startMcpProxy(): Promise<HttpTarget> {
  const bin = installed('mcp-proxy', 'mcp-proxy');
  const { command, args } = servers.echo;
  return startBridge((port) =>
    [bin, '--host', '127.0.0.1', '--port', String(port), '--server', 'stream'].concat(
      '--',
      command,
      args,
    ),
  );
}

/** `npx supergateway --stdio COMMAND --outputTransport streamableHttp --stateful`: one server for a session, as with the others. */
export function startSupergateway(): Promise<HttpTarget> {
  const bin = installed('supergateway', 'supergateway');
  const { command, args } = servers.echo;
  const run = [bin, '--stdio', [command, ...args].join(' ')];
  const how = ['--outputTransport', 'streamableHttp', '--stateful', '--logLevel', 'none'];
  return startBridge((port) => [...run, ...how, '--port', String(port)]);
}

export interface GateOptions {
  readonly rotate?: string;
  readonly port?: number;
}

export interface GateTarget extends HttpTarget {
  readonly pid: number;
  /** Asked to end; returns its exit code. */
  stop(): Promise<number | null>;
}

/** `rotated gate` with this one server behind it, its values from the feed. */
export async function startGate(
  feed: TestFeed,
  server: ServerJson,
  { rotate = checkoutRotate, port = 0 }: GateOptions = {},
): Promise<GateTarget> {
  const file = path.join(feed.state, 'servers.json');
  const entry =
    'url' in server ? server : { ...server, env: { API_KEY_REF: reference, ...server.env } };
  writeFileSync(file, JSON.stringify({ mcpServers: { test: entry } }), { mode: 0o600 });
  const listen = `127.0.0.1:${port === 0 ? await freePort() : port}`;
  const args = [rotate, 'gate', '--servers', file, '--listen', listen, '--state', feed.state];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
  });
  const exited = once(child, 'close') as Promise<[number | null]>;
  let errors = '';
  child.stderr.on('data', (part: Buffer) => {
    if (errors.length < 2_000) errors += part.toString();
  });
  const ready = new Promise<void>((resolve) => {
    child.stdout.on(
      'data',
      createLineSplitter((line) => {
        if (line.includes('"message":"ready"')) resolve();
      }),
    );
  });
  const ended = exited.then(([code]) => {
    throw new Error(`The gate ended with ${code}: ${errors}`);
  });
  ended.catch(() => {});
  await Promise.race([ready, ended]);
  const token = readFileSync(path.join(feed.state, 'gate-token'), 'utf8').trim();
  const end = async (signal: 'SIGTERM' | 'SIGKILL') => {
    child.kill(signal);
    const [code] = await exited;
    return code;
  };
  return {
    url: `http://${listen}/test/mcp`,
    headers: { authorization: `Bearer ${token}` },
    pid: child.pid as number,
    stop: () => end('SIGTERM'),
    end: async () => {
      await end('SIGTERM');
    },
  };
}

/** As a client's config has it. */
export type ServerJson =
  | (Command & { readonly env?: Readonly<Record<string, string>> })
  | { readonly url: string; readonly headers: Readonly<Record<string, string>> };

/** A session on it, in the era that all of them speak. */
export async function openOn({ url, headers }: HttpTarget): Promise<Session> {
  const transport = openHttp({ url, era: 'legacy', ...(headers === undefined ? {} : { headers }) });
  const session = createSession(plainDialect('legacy'), transport, createLedger('h'));
  await session.open();
  return session;
}

/** Throws where the package is not there. */
function installed(name: string, bin: string): string {
  const require = createRequire(import.meta.url);
  const manifest = require.resolve(`${name}/package.json`);
  const { bin: bins } = require(manifest) as { bin: Record<string, string> };
  return createRequire(manifest).resolve(`./${bins[bin] ?? ''}`);
}

async function startBridge(argsFor: (port: number) => readonly string[]): Promise<HttpTarget> {
  const port = await freePort();
  const child = spawn(process.execPath, argsFor(port), {
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  });
  let errors = '';
  child.stderr.on('data', (part: Buffer) => {
    if (errors.length < 2_000) errors += part.toString();
  });
  const { pid } = child;
  const target = { url: `http://127.0.0.1:${port}/mcp`, pid, end: () => endGroup(child) };
  const until = performance.now() + readyWithinMs;
  while (performance.now() < until && child.exitCode === null) {
    try {
      const session = await openOn(target);
      await session.close();
      return target;
    } catch {
      await delay(askEveryMs);
    }
  }
  await target.end();
  throw new Error(`It did not answer within ${readyWithinMs} ms: ${errors}`);
}

/** It and the servers that it started. */
async function endGroup(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null) return;
  const exited = once(child, 'exit');
  process.kill(-child.pid, 'SIGKILL');
  await exited;
}
