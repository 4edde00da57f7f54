/** One client of a server under `rotate wrap`: asks it line by line, and keeps all that comes out for the search. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Evidence } from './evidence.ts';
import { within } from './stage.ts';

export interface Wrapped extends AsyncDisposable {
  /** The handshake, and the list of tools. */
  introduce(): Promise<void>;
  /** The whole answer. Throws where the server ends without one. */
  ask(method: string, params?: object): Promise<Answer>;
  call(tool: string): Promise<Answer>;
  /** All that the client has seen so far. */
  seen(): string;
  /** Closes as a client does; the exit code. */
  close(): Promise<number | null>;
}

export interface Answer {
  readonly result?: { readonly isError?: boolean };
  readonly error?: { readonly code: number; readonly message: string };
}

export interface WrappedOptions {
  /** For the report. */
  readonly where: string;
  /** Options of `rotate wrap`. */
  readonly options: readonly string[];
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly evidence: Evidence;
}

const rotate = path.resolve(import.meta.dirname, '../../bin/rotate.js');

export function startWrapped({ where, options, command, env, evidence }: WrappedOptions): Wrapped {
  const child = spawn(process.execPath, [rotate, 'wrap', ...options, '--', ...command], {
    env: { ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const texts = { out: '', err: '' };
  const waiting = new Map<number, PromiseWithResolvers<Answer>>();
  let lastId = 0;
  child.stdout.on('data', (chunk: Buffer) => (texts.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (texts.err += chunk.toString()));
  child.stdin.on('error', () => undefined);
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, ...answer } = JSON.parse(line) as Answer & { id?: number };
    if (id !== undefined) waiting.get(id)?.resolve(answer);
  });
  const ended = once(child, 'close').then(([code]) => {
    evidence.text(`${where}: what the client reads`, texts.out);
    evidence.text(`${where}: what the client logs`, texts.err);
    for (const one of waiting.values()) one.reject(new Error(`${where} ended: ${texts.err}`));
    return code as number | null;
  });
  const write = (message: object) =>
    child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);

  async function ask(method: string, params: object = {}): Promise<Answer> {
    const id = ++lastId;
    const answer = Promise.withResolvers<Answer>();
    waiting.set(id, answer);
    write({ id, method, params });
    return within(`${where} answers ${method}`, answer.promise);
  }

  return {
    introduce: async () => {
      await ask('initialize', {
        protocolVersion: '2025-11-25',
        capabilities: {},
        clientInfo: { name: 'leak', version: '1.0.0' },
      });
      write({ method: 'notifications/initialized' });
      await ask('tools/list');
    },
    ask,
    call: (tool) => ask('tools/call', { name: tool, arguments: {} }),
    seen: () => `${texts.out}\n${texts.err}`,
    close: () => {
      child.stdin.end();
      return within(`${where} ends`, ended);
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) child.stdin.end();
      await within(`${where} ends`, ended);
    },
  };
}
