/** The daemon's end of the control socket: whoever owns the state directory answers there. */
import type { Socket } from 'node:net';
import { asRotatedError, type RotatedError } from '../errors.ts';
import type { Actor } from '../journal/journal.ts';
import type { Log } from '../rotation/ports.ts';
import type { WholeService } from '../hub/service.ts';
import { lineSplitter } from './lines.ts';
import {
  aliveEveryMs,
  type Answer,
  controlVersion,
  type Hello,
  requestBytesMax,
  type WireAsk,
} from './protocol.ts';
import { callService, parseIncoming, type WatchRequest } from './requests.ts';
import { servePrivately } from './socket-server.ts';

export interface ControlServer {
  readonly path: string;
  /** Stops listening, lets calls in flight end for at most `graceMs`, then closes. */
  close(graceMs: number): Promise<void>;
}

export interface ControlOptions {
  readonly service: WholeService;
  /** From `controlSocketPath`. */
  readonly path: string;
  /** Of the lease: makes this server's file name its own. */
  readonly fence: number;
  readonly version: string;
  /** The account whose folder the socket lies in: whoever gets in is this account, or root. */
  readonly account: string;
  readonly log: Log;
}

/** People and scripts: more at once is a fault of the caller. */
const connectionsMax = 128;
/** A watcher that does not read is dropped, not buffered for. */
const unreadBytesMax = 64 << 20;

export async function serveControl(options: ControlOptions): Promise<ControlServer> {
  const open = new Set<Connection>();
  const server = await servePrivately({
    path: options.path,
    ownName: `c${options.fence.toString(36)}.sock`,
    connectionsMax,
    onConnection: (socket) => {
      const connection = serveConnection(socket, options);
      open.add(connection);
      socket.once('close', () => open.delete(connection));
    },
  });
  return {
    path: server.path,
    close: async (graceMs) => {
      const closed = server.close();
      for (const connection of open) connection.finish();
      const timer = setTimeout(() => {
        for (const connection of open) connection.destroy();
      }, graceMs);
      await closed;
      clearTimeout(timer);
    },
  };
}

interface Connection {
  /** No further request; ends when the last call in flight has been answered. */
  finish(): void;
  destroy(): void;
}

function serveConnection(socket: Socket, options: ControlOptions): Connection {
  const watches = new Map<number, AbortController>();
  let calls = 0;
  let finishing = false;

  const send = (answer: Answer | Hello) => {
    if (!socket.writable) return;
    socket.write(`${JSON.stringify(answer)}\n`);
    if (socket.writableLength > unreadBytesMax) socket.destroy();
  };
  const endIfDone = () => {
    if (finishing && calls === 0) socket.end();
  };
  const actorOf = (ask: WireAsk): Actor =>
    ask.as === null || ask.as === options.account
      ? { id: options.account, channel: 'socket', proven: true }
      : { id: `${ask.as} as ${options.account}`, channel: 'socket', proven: false };

  const receive = (line: string) => {
    const incoming = parseIncoming(line);
    if (incoming.kind === 'cancel') {
      watches.get(incoming.id)?.abort();
      return;
    }
    if (incoming.kind === 'broken') {
      if (incoming.id === null) socket.destroy();
      else send({ id: incoming.id, error: wire(incoming.error) });
      return;
    }
    const { request } = incoming;
    calls += 1;
    const alive = setInterval(() => send({ id: request.id, alive: true }), aliveEveryMs);
    const answered =
      request.method === 'watch'
        ? streamWatch(options.service, request, watches, send)
        : callService(options.service, request, actorOf).then((result) =>
            send({ id: request.id, result: result ?? null }),
          );
    answered
      .catch((thrown: unknown) => {
        const error = asRotatedError(thrown, 'unknown');
        if (error.code === 'unexpected') {
          options.log.error({ method: request.method, error }, 'control request failed');
        }
        send({ id: request.id, error: wire(error) });
      })
      .finally(() => {
        clearInterval(alive);
        calls -= 1;
        endIfDone();
      });
  };

  const split = lineSplitter(requestBytesMax);
  socket.on('data', (chunk) => {
    if (finishing) return;
    try {
      for (const line of split(chunk)) receive(line);
    } catch (thrown) {
      if (!(thrown instanceof RangeError)) throw thrown;
      options.log.warn({}, 'control request too long');
      socket.destroy();
    }
  });
  socket.on('error', () => socket.destroy());
  socket.on('close', () => {
    for (const watch of watches.values()) watch.abort();
  });
  send({ rotated: options.version, control: controlVersion, pid: process.pid });
  return {
    finish: () => {
      finishing = true;
      for (const watch of watches.values()) watch.abort();
      endIfDone();
    },
    destroy: () => socket.destroy(),
  };
}

async function streamWatch(
  service: WholeService,
  request: WatchRequest,
  watches: Map<number, AbortController>,
  send: (answer: Answer) => void,
): Promise<void> {
  const { id, params } = request;
  const controller = new AbortController();
  watches.set(id, controller);
  try {
    const progress = service.watch(params.rotations, params.patienceMs, controller.signal);
    for await (const event of progress) send({ id, event });
  } catch (thrown) {
    if (!controller.signal.aborted) throw thrown;
  } finally {
    watches.delete(id);
  }
  send({ id, end: true });
}

function wire(error: RotatedError) {
  return error.toJSON() as { code: string; message: string };
}
