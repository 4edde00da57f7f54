/** The other end of a throw-away MCP server: a handshake of whichever era it speaks, and single requests. */
import { isRotatedError, RotatedError } from '../errors.ts';
import type { Link, LinkEnd, StartLink } from '../gate/link.ts';
import { frameOf, readMessage } from '../gate/message.ts';
import { programVersion } from '../version.ts';

/** What a server answered: a result, or an error of JSON-RPC. What either says may hold a value. */
export type Answer =
  | { readonly result: Readonly<Record<string, unknown>> }
  | { readonly error: { readonly code: number } };

export interface McpClient {
  request(method: string, params: Readonly<Record<string, unknown>>): Promise<Answer>;
  /** Nothing of it runs when this resolves. */
  stop(): Promise<void>;
}

/** The newest revision that begins with `initialize`; a server answers with the one it speaks. */
const legacyRevision = '2025-11-25';
const modernRevision = '2026-07-28';

/**
 * Starts it and shakes hands. `initialize` comes first: servers of that era may exit at anything else, while later ones
 * answer that they do not know it. Throws `unavailable` where it ends, `timeout` where the signal ends it, `invalid-answer`.
 */
export async function openMcp(startLink: StartLink, signal: AbortSignal): Promise<McpClient> {
  const wire = openWire(startLink, signal);
  try {
    const legacy = await wire.request('initialize', {
      protocolVersion: legacyRevision,
      capabilities: {},
      clientInfo: { name: 'rotated', version: programVersion() },
    });
    if ('result' in legacy) {
      wire.notify('notifications/initialized');
      return wire;
    }
    const modern: McpClient = {
      stop: wire.stop,
      request: (method, params) =>
        wire.request(method, {
          ...params,
          _meta: {
            'io.modelcontextprotocol/protocolVersion': modernRevision,
            'io.modelcontextprotocol/clientCapabilities': {},
            'io.modelcontextprotocol/clientInfo': { name: 'rotated', version: programVersion() },
          },
        }),
    };
    const discovered = await modern.request('server/discover', {});
    if ('result' in discovered) return modern;
    throw new RotatedError('invalid-answer', 'The server answers no handshake of either era.');
  } catch (error) {
    await wire.stop();
    throw error;
  }
}

interface Wire extends McpClient {
  notify(method: string): void;
}

function openWire(startLink: StartLink, signal: AbortSignal): Wire {
  const waiting = new Map<string, PromiseWithResolvers<Answer>>();
  let lastId = 0;
  let over: RotatedError | null = null;
  const fail = (error: RotatedError) => {
    over ??= error;
    for (const one of waiting.values()) one.reject(over);
    waiting.clear();
  };
  const link: Link = startLink(
    { values: new Map(), generations: {} },
    {
      onFrames(frames) {
        for (const frame of frames) receive(frame);
      },
      onDrain: () => {},
      onLog: () => {},
      onTooLong: () => fail(new RotatedError('invalid-answer', 'The server answers too much.')),
    },
  );
  const onAbort = () => fail(new RotatedError('timeout', 'The server did not answer in time.'));
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  void link.ended.then((end) => fail(endedEarly(end)));

  function receive(frame: Buffer): void {
    const message = readMessage(frame);
    // Anything else on stdout is junk: servers print banners there.
    if (message?.kind === 'request') {
      const { id, method } = JSON.parse(frame.toString()) as { id: unknown; method: string };
      // Nothing was offered, so nothing but a sign of life can be asked.
      link.send(
        frameOf(
          method === 'ping'
            ? { id, result: {} }
            : { id, error: { code: -32_601, message: 'Method not found' } },
        ),
      );
      return;
    }
    if (message?.kind !== 'response') return;
    const { id, result, error } = JSON.parse(frame.toString()) as {
      id: string;
      result?: Record<string, unknown>;
      error?: { code: unknown };
    };
    const one = waiting.get(id);
    waiting.delete(id);
    if (one === undefined) return;
    if (error === undefined) one.resolve({ result: result ?? {} });
    // A number, whatever it wrote there: it is repeated.
    else one.resolve({ error: { code: Number(error.code) } });
  }

  return {
    request(method, params) {
      if (over !== null) return Promise.reject(over);
      lastId += 1;
      const id = `rotated:${lastId}`;
      const answer = Promise.withResolvers<Answer>();
      waiting.set(id, answer);
      link.send(frameOf({ id, method, params }));
      return answer.promise;
    },
    notify: (method) => {
      link.send(frameOf({ method }));
    },
    async stop() {
      signal.removeEventListener('abort', onAbort);
      // One that hung, or was told to hurry, has had its time.
      await link.stop(over !== null && isRotatedError(over, 'timeout') ? 'now' : 'gentle');
    },
  };
}

function endedEarly({ why, message, exitCode, signal }: LinkEnd): RotatedError {
  if (why === 'failed') return new RotatedError('not-found', message ?? 'It was not started.');
  const how = signal ?? `exit code ${exitCode ?? 'unknown'}`;
  return new RotatedError('unavailable', `The server ended with ${how} before it answered.`);
}
