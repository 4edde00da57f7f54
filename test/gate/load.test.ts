/** The harness is told lies of every kind, and must notice each; of honest servers it must say nothing. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { startProgram } from '../support/program.ts';
import { seededRandom } from '../support/world/random.ts';
import { type Mix, mixedLoop, stopAll } from './load/drive.ts';
import { openHttp } from './load/http.ts';
import { createLedger, type Kind, type Totals } from './load/ledger.ts';
import { legacyDialect } from './load/legacy.ts';
import { callKey, type Message, type Request, type RpcId } from './load/message.ts';
import { modernDialect } from './load/modern.ts';
import { completeServerLog, parseServerLog } from './load/server-log.ts';
import { createSession, type Session } from './load/session.ts';
import type { Receiver, Transport } from './load/transport.ts';
import { launch, servers } from './support/targets.ts';

/** A server inside the test that answers as told, and writes down what it got. */
interface Liar extends Transport {
  readonly requests: Request[];
  readonly cancelled: RpcId[];
  say(message: Message): void;
  broken(id: RpcId, reason: string): void;
  log: string;
}

function liar(answer: (request: Request, server: Liar) => void): Liar {
  let receiver: Receiver | null = null;
  const server: Liar = {
    requests: [],
    cancelled: [],
    log: '',
    say: (message) => receiver?.message(message),
    broken: (id, reason) => receiver?.broken(id, reason),
    request: (request) => {
      server.requests.push(request);
      server.log += seen(request);
      answer(request, server);
    },
    notify: () => {},
    answer: () => {},
    cancel: (id) => server.cancelled.push(id),
    receive: (next) => {
      receiver = next;
    },
    close: async () => {},
  };
  return server;
}

function idOf({ params }: Request): string {
  return String((params['_meta'] as Record<string, unknown>)[callKey]);
}

/** The line of an honest server's log. */
function seen(request: Request, pid = 1): string {
  return `C ${idOf(request)} ${pid} key ${request.method}:1 1\n`;
}

function echo(request: Request, text = `Echo: ${idOf(request)}`): Message {
  return { id: request.id, result: { content: [{ type: 'text', text }] } };
}

/** Calls of one kind against such a server, and what the ledger says of them. */
async function judge(
  answer: (request: Request, server: Liar) => void,
  kind: Kind = 'plain',
  calls = 3,
): Promise<Totals> {
  const server = liar(answer);
  const ledger = createLedger('t');
  const session = createSession(legacyDialect({ random: seededRandom(1) }), server, ledger);
  for (let n = 0; n < calls; n += 1) void session.call(kind);
  await ledger.settle(400);
  return ledger.totals(parseServerLog(server.log));
}

const nothing = { failed: 0, lost: 0, doubled: 0, mismatched: 0, cancelsLost: 0 };

describe('the load generator', () => {
  test('finds nothing wrong with an honest server', async () => {
    const totals = await judge((request, server) => server.say(echo(request)));
    expect(totals).toMatchObject({ ...nothing, total: 3, calls: { plain: 3 } });
  });

  test('notices a call that is never answered', async () => {
    const totals = await judge((request, server) => {
      if (!idOf(request).endsWith('-1')) server.say(echo(request));
    });
    expect(totals).toMatchObject({ ...nothing, lost: 1 });
  });

  test('notices a second answer', async () => {
    const totals = await judge((request, server) => {
      server.say(echo(request));
      if (idOf(request).endsWith('-1')) server.say(echo(request));
    });
    expect(totals).toMatchObject({ ...nothing, doubled: 1 });
  });

  test('notices a call that reached a server twice, though it was answered once', async () => {
    const totals = await judge((request, server) => {
      if (idOf(request).endsWith('-1')) server.log += seen(request, 2);
      server.say(echo(request));
    });
    expect(totals).toMatchObject({ ...nothing, doubled: 1 });
  });

  test('notices the answer of another call', async () => {
    const waiting: Request[] = [];
    const totals = await judge(
      (request, server) => {
        waiting.push(request);
        const [first, second] = waiting;
        if (first === undefined || second === undefined) return;
        server.say({ ...echo(second), id: first.id });
        server.say({ ...echo(first), id: second.id });
      },
      'plain',
      2,
    );
    expect(totals).toMatchObject({ ...nothing, mismatched: 2 });
  });

  test('notices an id that came back as another type', async () => {
    const totals = await judge(
      (request, server) => server.say({ ...echo(request), id: String(request.id).slice(1) }),
      'plain',
      1,
    );
    expect(totals).toMatchObject({ ...nothing, mismatched: 1, lost: 1 });
  });

  test('notices an answer that no server gave', async () => {
    const totals = await judge((request, server) => {
      server.log = '';
      server.say(echo(request));
    });
    expect(totals.mismatched).toBe(3);
  });

  test('notices errors and error results', async () => {
    const totals = await judge((request, server) => {
      if (idOf(request).endsWith('-0')) {
        server.say({ id: request.id, error: { code: -32_000, message: 'no' } });
      } else if (idOf(request).endsWith('-1')) {
        server.say({ id: request.id, result: { isError: true, content: [] } });
      } else server.say(echo(request));
    });
    expect(totals).toMatchObject({ ...nothing, failed: 2 });
  });

  test('notices a stream that broke', async () => {
    const totals = await judge((request, server) => server.broken(request.id, 'reset'));
    expect(totals).toMatchObject({ ...nothing, failed: 3 });
  });

  describe('progress', () => {
    const operate = (steps: readonly number[]) => (request: Request, server: Liar) => {
      for (const progress of steps) {
        const params = { progressToken: idOf(request), progress, total: 5 };
        server.say({ method: 'notifications/progress', params });
      }
      const { duration, steps: total } = request.params['arguments'] as Record<string, number>;
      const text = `Long running operation completed. Duration: ${duration} seconds, Steps: ${total}.`;
      server.say(echo(request, text));
    };

    test('in order and complete is fine', async () => {
      expect(await judge(operate([1, 2, 3, 4, 5]), 'progress')).toMatchObject(nothing);
    });

    for (const [what, steps] of [
      ['out of order', [1, 3, 2, 4, 5]],
      ['with a step missing', [1, 2, 4, 5]],
      ['with the last missing', [1, 2, 3, 4]],
      ['with a step twice', [1, 2, 2, 3, 4, 5]],
      ['absent', []],
    ] as const) {
      test(`${what} is noticed`, async () => {
        expect(await judge(operate(steps), 'progress', 1)).toMatchObject({
          ...nothing,
          mismatched: 1,
        });
      });
    }

    test('after the answer is noticed', async () => {
      const totals = await judge(
        (request, server) => {
          operate([1, 2, 3, 4])(request, server);
          operate([5])(request, server);
        },
        'progress',
        1,
      );
      expect(totals.mismatched + totals.doubled).toBeGreaterThan(0);
    });
  });

  test('notices a cancellation that did not reach the process with the call', async () => {
    const never = await judge(() => {}, 'cancel');
    expect(never).toMatchObject({ ...nothing, cancelsLost: 3 });
    const elsewhere = await judge((request, server) => {
      server.log += `X ${idOf(request)} 2\n`;
    }, 'cancel');
    expect(elsewhere).toMatchObject({ ...nothing, cancelsLost: 3 });
    const right = await judge((request, server) => {
      server.log += `X ${idOf(request)} 1\n`;
    }, 'cancel');
    expect(right).toMatchObject(nothing);
  });

  test('notices the answer to an elicitation that went to another call', async () => {
    const raw = (id: string) => `Raw result: {"content":{"name":"${id}"}}`;
    const right = await judge(
      (request, server) => server.say(echo(request, raw(idOf(request)))),
      'elicitation',
    );
    expect(right).toMatchObject(nothing);
    const wrong = await judge(
      (request, server) => server.say(echo(request, raw('t-9'))),
      'elicitation',
    );
    expect(wrong).toMatchObject({ ...nothing, mismatched: 3 });
  });

  test('notices a live key in an answer', async () => {
    const server = liar((request, own) => own.say(echo(request, '{"API_KEY":"key-g1-secret"}')));
    const ledger = createLedger('t');
    const dialect = legacyDialect({ random: seededRandom(1), secrets: () => ['key-g1-secret'] });
    await createSession(dialect, server, ledger).call('env');
    expect(ledger.totals(null)).toMatchObject({ ...nothing, mismatched: 1 });
  });

  test('gives an answer to a modern call that asks back only with the state it was given', async () => {
    const server = liar((request, own) => {
      const { requestState } = request.params;
      if (requestState === 'sealed') {
        own.say(echo(request, `Asked for ${idOf(request)}, got "I ${idOf(request)}"`));
      } else {
        const result = { resultType: 'input_required', requestState: 'sealed', inputRequests: {} };
        own.say({ id: request.id, result });
      }
    });
    const ledger = createLedger('t');
    const session = createSession(modernDialect({ random: seededRandom(1) }), server, ledger);
    const call = await session.call('elicitation');
    expect(call.rounds).toBe(2);
    expect(ledger.totals(null)).toMatchObject(nothing);
  });

  test('notices a change that a modern subscriber was not told', async () => {
    const server = liar((request, own) => own.say(echo(request, 'Touched')));
    const session = createSession(
      modernDialect({ random: seededRandom(1) }),
      server,
      createLedger('t'),
    );
    await session.call('subscription');
    expect(session.leftovers()).toHaveLength(1);
  });
});

describe('every kind of call is answered rightly by', () => {
  const mix: Mix = {
    plain: 200,
    progress: 20,
    cancel: 20,
    elicitation: 30,
    sampling: 30,
    subscription: 4,
    list: 10,
    read: 20,
    env: 4,
    ping: 10,
  };
  const open: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of open.splice(0).toReversed()) await end();
  });

  /** The mix, until there were some of each kind. */
  async function run(session: Session, ledger: ReturnType<typeof createLedger>): Promise<void> {
    await session.open();
    const drive = mixedLoop(session, mix, seededRandom(2));
    const kinds = Object.keys(mix).length;
    while (
      new Set(ledger.calls.map(({ kind }) => kind)).size < kinds ||
      ledger.calls.length < 300
    ) {
      await session.call('plain');
      await new Promise(setImmediate);
    }
    await stopAll([drive], 20_000);
    await ledger.settle(20_000);
  }

  function logFile(): string {
    const folder = mkdtempSync(path.join(tmpdir(), 'rotated-load-'));
    open.push(() => rmSync(folder, { recursive: true, force: true }));
    return path.join(folder, 'calls.log');
  }

  test('server-everything', async () => {
    const log = logFile();
    const transport = launch({ relay: 'direct', server: servers.everything, log });
    const ledger = createLedger('e');
    const session = createSession(legacyDialect({ random: seededRandom(1) }), transport, ledger);
    open.push(() => {
      // Its timers may keep it from ending by itself.
      transport.child.kill('SIGKILL');
      return session.close();
    });
    await run(session, ledger);
    expect(ledger.totals(await completeServerLog(log, ledger.owed()))).toMatchObject({
      ...nothing,
      problems: [],
    });
    expect(session.counts.get('notifications/progress')).toBeGreaterThan(0);
  });

  test('the modern server by stdio', async () => {
    const log = logFile();
    const transport = launch({ relay: 'direct', server: servers.modern, log });
    const ledger = createLedger('m');
    const session = createSession(modernDialect({ random: seededRandom(1) }), transport, ledger);
    open.push(() => session.close());
    await run(session, ledger);
    expect(ledger.totals(await completeServerLog(log, ledger.owed()))).toMatchObject({
      ...nothing,
      problems: [],
    });
    await expect.poll(() => session.leftovers(), { timeout: 10_000 }).toEqual([]);
    expect(ledger.calls.some(({ rounds }) => rounds === 2)).toBe(true);
  });

  test('the modern server over HTTP', async () => {
    const program = await startProgram(new URL('servers/modern-http.ts', import.meta.url), []);
    open.push(() => program.end());
    const ledger = createLedger('h');
    const transport = openHttp({ url: `http://127.0.0.1:${program.port}/mcp`, era: 'modern' });
    const session = createSession(modernDialect({ random: seededRandom(1) }), transport, ledger);
    open.push(() => session.close());
    await run(session, ledger);
    // Its log is not this test's; what counts here is the transport.
    const { failed, lost, doubled, mismatched, problems } = ledger.totals(null);
    expect({ failed, lost, doubled, mismatched, problems }).toEqual({
      failed: 0,
      lost: 0,
      doubled: 0,
      mismatched: 0,
      problems: [],
    });
    await expect.poll(() => session.leftovers(), { timeout: 10_000 }).toEqual([]);
  });
});
