/** The control socket's promises: same answers as in-process, nothing for strangers, hung owners noticed. */
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { RotatedError } from '../errors.ts';
import type { WholeService } from '../hub/service.ts';
import type { Ask, Progress, Started } from '../rotation/service.ts';
import { Secret } from '../secret/secret.ts';
import { reachControl } from './client.ts';
import { lineSplitter } from './lines.ts';
import { type ControlServer, serveControl } from './server.ts';
import { controlSocketPath, socketFolderOwner } from './socket-path.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const none = { names: [], tags: [], providers: [], consumers: [], all: false };
const person: Ask = {
  actor: { id: 'anna', channel: 'command', proven: true },
  reason: 'ticket 12',
};

function started(secret: string): Started {
  return {
    secret,
    rotation: 'r1',
    outcome: 'started',
    message: 'Started.',
    code: null,
    next: null,
  };
}

/** Records what it was asked; answers what the test set. */
function fakeService(answers: Partial<WholeService>): WholeService {
  const refuse = () => Promise.reject(new RotatedError('unsupported', 'Not in this test.'));
  return new Proxy(answers, {
    get: (target, key) => Reflect.get(target, key) ?? refuse,
  }) as WholeService;
}

function temporary(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'control-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function serve(state: string, service: WholeService, fence = 1): Promise<ControlServer> {
  const warned: unknown[] = [];
  const log = { info: () => {}, warn: (f: unknown) => warned.push(f), error: () => {} };
  const server = await serveControl({
    service,
    path: controlSocketPath(state),
    fence,
    version: '0.0.0',
    account: 'ops',
    log,
  });
  cleanups.push(() => server.close(50));
  return server;
}

async function connect(at: string, quietMs?: number) {
  const reached = await reachControl(at, 2_000, quietMs);
  if (reached.kind !== 'connected') throw new Error(`not connected: ${reached.kind}`);
  cleanups.push(() => reached.client.close());
  return reached.client;
}

describe('the control socket', () => {
  test('a request reaches the service with the account the folder proves, and its reason', async () => {
    const asked: Ask[] = [];
    const state = temporary();
    const server = await serve(
      state,
      fakeService({
        pause: async (secret, ask) => {
          asked.push(ask);
          return started(secret);
        },
      }),
    );
    const client = await connect(server.path);
    expect(await client.service.pause('reports-db', person)).toEqual(started('reports-db'));
    const claimed: Ask = { ...person, actor: { ...person.actor, proven: false } };
    await client.service.pause('reports-db', claimed);
    expect(asked).toEqual([
      { actor: { id: 'ops', channel: 'socket', proven: true }, reason: 'ticket 12' },
      { actor: { id: 'anna as ops', channel: 'socket', proven: false }, reason: 'ticket 12' },
    ]);
    expect(socketFolderOwner(state, server.path)).toBe(process.getuid?.());
    expect(statSync(path.dirname(server.path)).mode & 0o777).toBe(0o700);
  });

  test('values go through supply and read whole, as secrets at both ends', async () => {
    const value = 'line one\nline "two" \u2028 ✓';
    let supplied: Readonly<Record<string, Secret>> = {};
    const server = await serve(
      temporary(),
      fakeService({
        supply: async (secret, fields) => {
          supplied = fields;
          return started(secret);
        },
        read: async () => ({ generation: 4, fields: supplied }),
      }),
    );
    const { service } = await connect(server.path);
    await service.supply('key', { token: new Secret(value) }, person);
    expect(supplied['token']?.reveal()).toBe(value);
    const answer = await service.read('key', 'current', person);
    expect(answer.generation).toBe(4);
    expect(answer.fields['token']?.reveal()).toBe(value);
    expect(JSON.stringify(answer)).not.toContain('line');
  });

  test('an error keeps its code, effect, secret and next step', async () => {
    const thrown = new RotatedError('way-back-closed', 'Too late.', {
      effect: 'applied',
      secret: 'reports-db',
      next: 'Rotate again.',
    });
    const server = await serve(
      temporary(),
      fakeService({ rollback: () => Promise.reject(thrown) }),
    );
    const { service } = await connect(server.path);
    const error = await service.rollback('reports-db', person).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(RotatedError);
    expect((error as RotatedError).toJSON()).toEqual(thrown.toJSON());
  });

  test('a foreign error says its class and never its text', async () => {
    const server = await serve(
      temporary(),
      fakeService({ status: () => Promise.reject(new TypeError('password=hunter2')) }),
    );
    const { service } = await connect(server.path);
    const error = (await service.status(none).catch((e: unknown) => e)) as RotatedError;
    expect(error.code).toBe('unexpected');
    expect(error.message).not.toContain('hunter2');
  });

  test('a watch streams in order and ends; leaving it early ends it at the daemon', async () => {
    const left: string[] = [];
    const event = (phase: string): Progress => ({
      rotation: 'r1',
      secrets: ['a'],
      phase,
      at: 1,
      message: phase,
      final: null,
    });
    const server = await serve(
      temporary(),
      fakeService({
        watch: async function* (_rotations, patienceMs, signal) {
          yield event('minting');
          yield event('minted');
          if (patienceMs === 0) return;
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
          left.push('left');
        },
        status: async () => ({ secrets: [], warnings: left, owner: null }),
      }),
    );
    const { service } = await connect(server.path);
    const signal = new AbortController().signal;
    const phases: string[] = [];
    for await (const progress of service.watch(['r1'], 0, signal)) phases.push(progress.phase);
    expect(phases).toEqual(['minting', 'minted']);
    for await (const progress of service.watch(['r1'], 1_000, signal)) {
      if (progress.phase === 'minted') break;
    }
    await expect.poll(async () => (await service.status(none)).warnings).toEqual(['left']);
  });

  test('an owner that accepts and says nothing is silent, not absent', async () => {
    const at = path.join(temporary(), 's');
    const mute = createServer(() => {});
    await new Promise<void>((resolve) => mute.listen(at, resolve));
    cleanups.push(() => mute.close());
    expect((await reachControl(at, 50)).kind).toBe('silent');
    expect((await reachControl(path.join(temporary(), 'none'), 50)).kind).toBe('absent');
  });

  test('a daemon that falls silent after its hello fails the call with daemon-silent', async () => {
    const at = path.join(temporary(), 's');
    const mute = createServer((socket) => {
      cleanups.push(() => socket.destroy());
      socket.write(`${JSON.stringify({ rotated: '0', control: 1, pid: 1 })}\n`);
    });
    await new Promise<void>((resolve) => mute.listen(at, resolve));
    cleanups.push(() => mute.close());
    const { service } = await connect(at, 50);
    await expect(service.status(none)).rejects.toMatchObject({ code: 'daemon-silent' });
    await expect(service.status(none)).rejects.toMatchObject({ code: 'daemon-silent' });
  });

  test('a daemon of another protocol is named, not guessed at', async () => {
    const at = path.join(temporary(), 's');
    const other = createServer((socket) => {
      cleanups.push(() => socket.destroy());
      socket.write(`${JSON.stringify({ rotated: '9', control: 9, pid: 7 })}\n`);
    });
    await new Promise<void>((resolve) => other.listen(at, resolve));
    cleanups.push(() => other.close());
    expect(await reachControl(at)).toEqual({
      kind: 'other-version',
      hello: { rotated: '9', control: 9, pid: 7 },
    });
  });

  test('closing an owner that lost the directory leaves the new owner reachable', async () => {
    const state = temporary();
    const hung = await serve(state, fakeService({}), 1);
    const next = await serve(
      state,
      fakeService({ status: async () => ({ secrets: [], warnings: ['next'], owner: null }) }),
      2,
    );
    await hung.close(50);
    const { service } = await connect(next.path);
    expect((await service.status(none)).warnings).toEqual(['next']);
    await next.close(50);
    expect(readdirSync(path.dirname(next.path))).toEqual([]);
  });

  test('a request that is broken or too long does not disturb others, and is not echoed', async () => {
    const server = await serve(
      temporary(),
      fakeService({ status: async () => ({ secrets: [], warnings: ['fine'], owner: null }) }),
    );
    const answer = await raw(
      server.path,
      '{"id":3,"method":"supply","params":{"secret":"hunter2"}}\n',
    );
    expect(answer).toContain('"code":"usage"');
    expect(answer).not.toContain('hunter2');
    await raw(server.path, 'x'.repeat((1 << 20) + 2));
    await raw(server.path, 'no json at all\n');
    const { service } = await connect(server.path);
    expect((await service.status(none)).warnings).toEqual(['fine']);
  });

  test('a state directory with a long path still has a socket that both ends find', async () => {
    const state = path.join(temporary(), 'long'.repeat(30));
    const at = controlSocketPath(state);
    expect(Buffer.byteLength(at)).toBeLessThan(90);
    cleanups.push(() => rmSync(path.dirname(at), { recursive: true, force: true }));
    await serve(
      state,
      fakeService({ status: async () => ({ secrets: [], warnings: [], owner: null }) }),
    );
    const { service } = await connect(controlSocketPath(state));
    expect((await service.status(none)).secrets).toEqual([]);
  });

  test('a call in flight when the daemon stops is answered; later ones are not taken', async () => {
    let finish: () => void = () => {};
    let arrived: () => void = () => {};
    const inFlight = new Promise<void>((resolve) => {
      arrived = resolve;
    });
    const server = await serve(
      temporary(),
      fakeService({
        pause: (secret) =>
          new Promise((resolve) => {
            arrived();
            finish = () => resolve(started(secret));
          }),
      }),
    );
    const { service } = await connect(server.path);
    const call = service.pause('a', person);
    await inFlight;
    const closed = server.close(5_000);
    finish();
    expect((await call).secret).toBe('a');
    await closed;
    expect((await reachControl(server.path, 100)).kind).toBe('absent');
  });
});

test('lines are cut wherever the chunks fall', () => {
  const split = lineSplitter(100);
  const bytes = Buffer.from('{"a":"✓"}\n{"b":1}\n{"c"');
  const lines: string[] = [];
  for (const byte of bytes) lines.push(...split(Uint8Array.of(byte)));
  lines.push(...split(Buffer.from(':2}\n')));
  expect(lines).toEqual(['{"a":"✓"}', '{"b":1}', '{"c":2}']);
  expect(() => split(Buffer.alloc(101, 'x'))).toThrow(RangeError);
});

/** Says `text` and returns all that is answered until the other end is quiet or closed. */
function raw(at: string, text: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection(at);
    let answer = '';
    const done = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.on('data', (chunk) => {
      answer += chunk.toString();
      if (answer.includes('"error"')) done();
    });
    socket.on('error', done);
    socket.on('close', done);
    socket.write(text);
  });
}
