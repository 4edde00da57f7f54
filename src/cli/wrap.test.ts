/** `rotate wrap` as a client starts it: one process between a client and its server, to the end of either. */
import { missingCondition } from '../../test/support/servers/required.ts';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { runProgram } from '../../test/support/rotated.ts';
import { lineOf, type ShimMessage } from '../gate/feed/protocol.ts';
import { defaultSettings } from '../gate/settings.ts';
import { addCommonOptions } from './command.ts';
import { configure } from './commands/wrap.ts';
import { wrapOptions } from './wrap.ts';

const rotate = path.resolve(import.meta.dirname, '../../bin/rotate.js');
const echo = path.join(import.meta.dirname, 'testing', 'echo-server.mjs');

interface Line {
  readonly id?: number;
  readonly method?: string;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string };
}

let folder = '';
const children: ChildProcessByStdio<Writable, Readable, Readable>[] = [];
const daemons: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'wrap-'));
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  }
  for (const daemon of daemons.splice(0)) daemon.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A client's end of `rotate wrap`, which reads only when it asks. */
class Client {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly ended: Promise<number | null>;
  err = '';
  readonly #lines: Line[] = [];
  readonly #waiting: (() => void)[] = [];
  #isReading = false;
  #lastId = 0;

  constructor(options: readonly string[], env: Record<string, string> = {}, words = ['a']) {
    const command = [process.execPath, echo, path.join(folder, 'log'), ...words];
    this.child = spawn(process.execPath, [rotate, 'wrap', ...options, '--', ...command], {
      cwd: folder,
      env: { PATH: '/usr/bin:/bin', HOME: folder, ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    children.push(this.child);
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.err += chunk.toString();
    });
    // It may be gone when it is spoken to.
    this.child.stdin.on('error', () => undefined);
    this.ended = once(this.child, 'exit').then(([code]) => code as number | null);
  }

  say(method: string, params: object = {}): number {
    this.#lastId += 1;
    const message = { jsonrpc: '2.0', id: this.#lastId, method, params };
    this.child.stdin.write(`${JSON.stringify(message)}\n`);
    return this.#lastId;
  }

  async ask(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = this.say(method, params);
    const { result, error } = await this.until((line) => line.id === id);
    if (result === undefined) throw new Error(`${method} fails: ${error?.message}`);
    return result;
  }

  /** The handshake: from here on a server that ends is started again. */
  async begin(): Promise<void> {
    await this.ask('initialize', { protocolVersion: '2025-11-25', capabilities: {} });
    this.child.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n');
  }

  read(): readonly Line[] {
    if (this.#isReading) return this.#lines;
    this.#isReading = true;
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.#lines.push(JSON.parse(line) as Line);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    return this.#lines;
  }

  async until(isIt: (line: Line) => boolean): Promise<Line> {
    for (;;) {
      const found = this.read().find(isIt);
      if (found !== undefined) return found;
      const next = new Promise<void>((resolve) => this.#waiting.push(resolve));
      const code = await Promise.race([next, this.ended]);
      if (code !== undefined && this.read().find(isIt) === undefined) {
        throw new Error(`rotate wrap ended with ${code}: ${this.err}`);
      }
    }
  }
}

function logged(): readonly string[] {
  const file = path.join(folder, 'log');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
}

describe('a mistake in the arguments', () => {
  test.each([
    ['no command', ['--']],
    ['an option that is not known', ['--CANARY', '--', 'node']],
    ['an option without its value', ['--server', '--', 'node']],
    ['a word before the command', ['CANARY', '--', 'node']],
    ['an address and a command', ['--url', 'https://CANARY.test/mcp', '--', 'node']],
    ['an address that is none', ['--url', 'CANARY']],
    ['a header without a name', ['--url', 'https://a.test/mcp', '--header', 'CANARY']],
    ['a header for a process', ['--header', 'x-key=CANARY', '--', 'node']],
    ['a file without a path', ['--file', '=CANARY', '--', 'node']],
    ['a file for a remote server', ['--url', 'https://a.test/mcp', '--file', 'a=CANARY']],
  ])('ends with 2 and the next step, and repeats nothing: %s', async (_, args) => {
    const { code, out, err } = await runProgram('rotate', ['wrap', ...args], { cwd: folder });
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain('(usage)\nNext: ');
    expect(err).not.toContain('CANARY');
  });

  test('a variable that is set beside its reference is named, its value is not', async () => {
    const client = new Client([], { API_KEY: 'CANARY', API_KEY_REF: 'local://mcp/search' });
    expect(await client.ended).toBe(2);
    expect(client.err).toContain('Both API_KEY and API_KEY_REF are set.');
    expect(client.err).toContain('Next: Remove API_KEY');
    expect(client.err).not.toContain('CANARY');
    expect(logged()).toEqual([]);
  });
});

describe('help', () => {
  test('names every option', async () => {
    const { code, out } = await runProgram('rotate', ['wrap', '--help'], { cwd: folder });
    expect(code).toBe(0);
    for (const name of Object.keys(wrapOptions)) expect(out).toContain(`--${name}`);
  });

  test('behind the "--" is an argument of the server', async () => {
    const client = new Client([], {}, ['--help', '--url', 'x']);
    expect(await client.ask('arguments')).toEqual({ words: ['--help', '--url', 'x'] });
  });

  test('has the options that the short way reads', () => {
    const command = new Command('wrap');
    addCommonOptions(command);
    const common = new Set(command.options.map((option) => option.long));
    configure(command);
    const own = command.options.filter(({ long }) => !common.has(long) || long === '--state');
    const kindOf = (option: (typeof own)[number]) => ({
      type: option.required ? 'string' : 'boolean',
      ...(Array.isArray(option.defaultValue) ? { multiple: true } : {}),
    });
    expect(
      Object.fromEntries(own.map((option) => [option.long?.slice(2), kindOf(option)])),
    ).toEqual(wrapOptions);
  });
});

describe('the end of the server', () => {
  test('before it has answered is the end of the shim, with the same code', async () => {
    const client = new Client([]);
    client.say('exit', { code: 7 });
    expect(await client.ended).toBe(7);
  });

  test('by a signal is told as a shell tells it', async () => {
    const client = new Client([]);
    client.say('kill', { signal: 'SIGKILL' });
    expect(await client.ended).toBe(128 + 9);
  });

  test('that never started says which command it was, and 127', async () => {
    const { code, err } = await runProgram('rotate', ['wrap', '--', './no-such-program'], {
      cwd: folder,
    });
    expect(code).toBe(127);
    expect(err).toContain('no-such-program');
  });
});

describe('the end of the client', () => {
  test('by closing its output is the end of the server, which answers first', async () => {
    const client = new Client([]);
    await client.begin();
    await client.ask('code', { code: 3 });
    const id = client.say('arguments');
    client.child.stdin.end();
    expect((await client.until((line) => line.id === id)).result).toEqual({ words: ['a'] });
    expect(await client.ended).toBe(3);
    expect(logged()).toEqual(['started', 'EOF']);
  });

  test('by SIGTERM lets the server end by itself', async () => {
    const client = new Client([]);
    await client.begin();
    await client.ask('code', { code: 4 });
    client.child.kill('SIGTERM');
    expect(await client.ended).toBe(4);
    expect(logged()).toEqual(['started', 'EOF']);
  });

  test('by not reading any more (EPIPE) lets the server end by itself', async () => {
    const client = new Client([]);
    await client.begin();
    await client.ask('code', { code: 5 });
    client.child.stdout.destroy();
    await once(client.child.stdout, 'close');
    // The answer finds nobody.
    client.say('arguments');
    expect(await client.ended).toBe(5);
    expect(logged()).toEqual(['started', 'EOF']);
  });
});

const notLinux = missingCondition(process.platform === 'linux', 'Linux: memory is read in /proc');
test.skipIf(notLinux !== null)(
  'a client that does not read makes the server wait, not the shim grow; it misses nothing',
  async () => {
    const client = new Client([]);
    await client.begin();
    client.child.stdout.pause();
    const before = peakBytes(client.child.pid);
    const [count, bytes] = [2_048, 32 << 10];
    const id = client.say('flood', { count, bytes });
    await standstill();
    expect(logged()).not.toContain('wrote all');
    expect(peakBytes(client.child.pid) - before).toBeLessThan((count * bytes) / 2);
    client.child.stdout.resume();
    await client.until((line) => line.id === id);
    const numbers = client
      .read()
      .flatMap(({ method }) => (method === 'notifications/message' ? [method] : []));
    expect(numbers).toHaveLength(count);
  },
);

describe('values', () => {
  const key = 'key-CANARY-0123456789';
  const reversed = (text: string) => text.split('').reverse().join('');

  test('come by NAME_REF; the rest of the environment is passed on, but nothing of our own', async () => {
    const { socket, hellos } = await daemon([key]);
    const client = new Client(['--server', 'search'], {
      ROTATED_GATE_SOCKET: socket,
      ROTATED_KEY_FILE: 'x',
      API_KEY_REF: 'local://mcp/search',
      GIT_REF: 'main',
      PLAIN: 'plain',
    });
    const names = ['API_KEY', 'API_KEY_REF', 'GIT_REF', 'PLAIN', 'ROTATED_GATE_SOCKET'];
    expect(await client.ask('environment', { names: [...names, 'ROTATED_KEY_FILE'] })).toEqual({
      API_KEY: reversed(key),
      API_KEY_REF: '',
      GIT_REF: 'niam',
      PLAIN: 'nialp',
      ROTATED_GATE_SOCKET: '',
      ROTATED_KEY_FILE: '',
    });
    expect(hellos).toMatchObject([{ server: 'search', references: ['local://mcp/search'] }]);
    client.child.stdin.end();
    expect(await client.ended).toBe(0);
    expect(client.err).not.toContain('CANARY');
  });

  test('stand in a file of --file before the server starts, for its account alone', async () => {
    const { socket } = await daemon([key]);
    const client = new Client(['--file', 'own.cfg=key={{local://mcp/search}}\n'], {
      ROTATED_GATE_SOCKET: socket,
    });
    const file = path.join(folder, 'own.cfg');
    expect(await client.ask('file', { path: file })).toEqual({ text: reversed(`key=${key}\n`) });
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  test('in an argument are warned of, since other accounts can read it', async () => {
    const { socket } = await daemon([key]);
    const words = ['--key={{local://mcp/search}}'];
    const client = new Client([], { ROTATED_GATE_SOCKET: socket }, words);
    expect(await client.ask('arguments')).toEqual({ words: ['--key=[redacted]'] });
    expect(client.err).toContain('A value stands in the arguments of the server');
  });
});

/** A daemon that answers every server with these values. */
async function daemon(values: readonly string[]) {
  const socket = path.join(folder, 'gate.sock');
  const hellos: ShimMessage[] = [];
  const server = createServer((stream) => {
    createInterface({ input: stream }).on('line', (line) => {
      const message = JSON.parse(line) as ShimMessage;
      if (message.type === 'hello') {
        hellos.push(message);
        const settings = defaultSettings;
        stream.write(lineOf({ type: 'welcome', feed: 1, rotated: 'test', settings }));
      }
      if (message.type !== 'resolve') return;
      stream.write(lineOf({ type: 'values', id: message.id, values, generations: {} }));
    });
    stream.on('error', () => undefined);
  });
  daemons.push(server);
  server.listen(socket);
  await once(server, 'listening');
  return { socket, hellos };
}

/** The most memory that the process has ever held. */
function peakBytes(pid: number | undefined): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1_024;
}

/** Until the server's log does not grow any more: nobody says so, so it is looked at again and again. */
async function standstill(): Promise<void> {
  let last = '';
  let same = 0;
  await vi.waitUntil(
    () => {
      const now = logged().at(-1) ?? '';
      same = now === last && now.startsWith('wrote') ? same + 1 : 0;
      last = now;
      return same >= 25;
    },
    { timeout: 45_000, interval: 20 },
  );
}
