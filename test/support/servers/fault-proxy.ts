/** A TCP proxy on loopback that loses, cuts, delays or withholds what passes through it, when it is told to. */
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export interface FaultProxy extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** Back to passing everything on; connections that were harmed stay so. */
  pass(): void;
  /** Accepts and reads, and never answers. */
  hang(): void;
  /** Each direction waits so long before each chunk. */
  delayBy(ms: number): void;
  /** Ends each new connection after so many bytes of answers. */
  cutAfter(answerBytes: number): void;
  /**
   * The next request that holds `needle` reaches the server; its answer is swallowed and the connection reset. Resolves
   * when the server's answer to it has been seen: the request took effect.
   */
  loseAnswerTo(needle: string | RegExp): Promise<void>;
  /** Resets every open connection. */
  reset(): void;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** All that clients have sent through it, byte for byte as Latin-1. */
  readonly requests: string;
}

type Mode =
  | { readonly kind: 'pass' }
  | { readonly kind: 'hang' }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'cut'; readonly bytes: number }
  | { readonly kind: 'lose'; readonly needle: string | RegExp; readonly lost: () => void };

export async function startFaultProxy(target: {
  readonly host: string;
  readonly port: number;
}): Promise<FaultProxy> {
  let mode: Mode = { kind: 'pass' };
  let accepted = 0;
  let requests = '';
  const open = new Set<net.Socket>();

  function track(socket: net.Socket): void {
    open.add(socket);
    // A reset is what this is for; its other end hears of it by 'close'.
    socket.on('error', () => undefined);
    socket.on('close', () => open.delete(socket));
  }

  const server = net.createServer((client) => {
    accepted++;
    track(client);
    const upstream = net.connect(target.port, target.host);
    track(upstream);
    client.on('close', () => upstream.destroy());
    let isLosing: (() => void) | null = null;
    let answered = 0;

    client.on('data', (chunk: Buffer) => {
      requests += chunk.toString('latin1');
      if (mode.kind === 'hang') return;
      if (mode.kind === 'lose' && holds(chunk, mode.needle)) {
        isLosing = mode.lost;
        mode = { kind: 'pass' };
      }
      forward(client, upstream, chunk);
    });
    client.on('end', () => upstream.end());
    upstream.on('data', (chunk: Buffer) => {
      if (mode.kind === 'hang') return;
      if (isLosing !== null) {
        isLosing();
        client.resetAndDestroy();
        return;
      }
      answered += chunk.length;
      if (mode.kind === 'cut' && answered >= mode.bytes) {
        client.write(chunk.subarray(0, Math.max(0, chunk.length - (answered - mode.bytes))));
        client.resetAndDestroy();
        return;
      }
      forward(upstream, client, chunk);
    });
    upstream.on('close', () => {
      if (mode.kind !== 'hang') client.end();
    });
  });

  function forward(from: net.Socket, to: net.Socket, chunk: Buffer): void {
    if (mode.kind !== 'delay') {
      to.write(chunk);
      return;
    }
    // Paused meanwhile, so that the order stays.
    from.pause();
    void delay(mode.ms).then(() => {
      if (!to.destroyed) to.write(chunk);
      from.resume();
    });
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address() as net.AddressInfo;
  const reset = (): void => {
    for (const socket of open) socket.resetAndDestroy();
  };
  return {
    host: '127.0.0.1',
    port: address.port,
    pass() {
      mode = { kind: 'pass' };
    },
    hang() {
      mode = { kind: 'hang' };
    },
    delayBy(ms) {
      mode = { kind: 'delay', ms };
    },
    cutAfter(bytes) {
      mode = { kind: 'cut', bytes };
    },
    loseAnswerTo(needle) {
      return new Promise((lost) => {
        mode = { kind: 'lose', needle, lost };
      });
    },
    reset,
    get accepted() {
      return accepted;
    },
    get requests() {
      return requests;
    },
    async [Symbol.asyncDispose]() {
      reset();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

function holds(chunk: Buffer, needle: string | RegExp): boolean {
  return typeof needle === 'string'
    ? chunk.includes(needle)
    : needle.test(chunk.toString('latin1'));
}

/** Answers every connection with the same bytes, whatever it is asked. */
export async function startHostileServer(
  answer: Uint8Array,
): Promise<{ readonly host: '127.0.0.1'; readonly port: number } & AsyncDisposable> {
  const open = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => open.delete(socket));
    socket.on('data', () => socket.write(answer));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    host: '127.0.0.1',
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}
