/** One HTTP/1.1 connection that carries one exchange at a time: so little that a benchmark measures the server and not this. */
import { connect, type Socket } from 'node:net';

export interface Exchange {
  readonly method: 'POST' | 'GET' | 'DELETE';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  head(status: number, headers: ReadonlyMap<string, string>): void;
  data(text: string): void;
  /** `null`: it came to its proper end. */
  over(problem: string | null): void;
}

export interface Connection {
  /** Only while none is under way. */
  start(exchange: Exchange): void;
  destroy(): void;
}

/** Where in an answer the parser stands. */
type Place =
  | { readonly at: 'head' }
  | { readonly at: 'length'; left: number }
  | { readonly at: 'chunk-size' }
  | { readonly at: 'chunk'; left: number }
  | { readonly at: 'trailer' }
  | { readonly at: 'until-close' };

/** `onIdle`: an exchange ended well and another may start; `onGone`: this connection carries none any more. */
export function openConnection(
  host: string,
  port: number,
  onIdle: (connection: Connection) => void,
  onGone: (connection: Connection) => void,
): Connection {
  const socket: Socket = connect({ host, port, noDelay: true });
  let buffer: Buffer = Buffer.alloc(0);
  let place: Place = { at: 'head' };
  let current: Exchange | null = null;
  let keep = true;

  const fail = (problem: string) => {
    const exchange = current;
    current = null;
    socket.destroy();
    exchange?.over(problem);
  };

  const finish = () => {
    const exchange = current;
    current = null;
    place = { at: 'head' };
    if (!keep) socket.destroy();
    exchange?.over(null);
    if (keep) onIdle(connection);
  };

  /** Takes `bytes` off the front. */
  const take = (bytes: number): Buffer => {
    const part = buffer.subarray(0, bytes);
    buffer = buffer.subarray(bytes);
    return part;
  };

  const line = (): string | null => {
    const at = buffer.indexOf('\r\n');
    if (at === -1) return null;
    const text = take(at).toString('latin1');
    take(2);
    return text;
  };

  const readHead = (): boolean => {
    const end = buffer.indexOf('\r\n\r\n');
    if (end === -1) return false;
    const [first = '', ...rest] = take(end).toString('latin1').split('\r\n');
    take(4);
    const headers = new Map<string, string>();
    for (const field of rest) {
      const colon = field.indexOf(':');
      headers.set(field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim());
    }
    const status = Number(first.split(' ')[1]);
    keep = headers.get('connection')?.toLowerCase() !== 'close';
    current?.head(status, headers);
    const length = headers.get('content-length');
    if (headers.get('transfer-encoding')?.toLowerCase() === 'chunked') place = { at: 'chunk-size' };
    else if (length !== undefined) place = { at: 'length', left: Number(length) };
    else if (status === 202 || status === 204) place = { at: 'length', left: 0 };
    else place = { at: 'until-close' };
    return true;
  };

  /** One step; false: more bytes are needed. */
  const step = (): boolean => {
    switch (place.at) {
      case 'head':
        return readHead();
      case 'length':
      case 'chunk': {
        if (place.left > 0) {
          if (buffer.length === 0) return false;
          const part = take(Math.min(place.left, buffer.length));
          place.left -= part.length;
          current?.data(part.toString('utf8'));
          return true;
        }
        if (place.at === 'length') finish();
        else if (line() === null) return false;
        else place = { at: 'chunk-size' };
        return current !== null;
      }
      case 'chunk-size': {
        const size = line();
        if (size === null) return false;
        const left = Number.parseInt(size, 16);
        place = left === 0 ? { at: 'trailer' } : { at: 'chunk', left };
        return true;
      }
      case 'trailer': {
        const text = line();
        if (text === null) return false;
        if (text === '') finish();
        return current !== null;
      }
      case 'until-close':
        if (buffer.length > 0) current?.data(take(buffer.length).toString('utf8'));
        return false;
      default:
        return place satisfies never;
    }
  };

  const connection: Connection = {
    start: (exchange) => {
      current = exchange;
      const bytes = Buffer.byteLength(exchange.body);
      const fields = Object.entries(exchange.headers).map(([name, value]) => `${name}: ${value}`);
      const head = [
        `${exchange.method} ${exchange.path} HTTP/1.1`,
        `host: ${host}:${port}`,
        ...fields,
        ...(exchange.method === 'POST' ? [`content-length: ${bytes}`] : []),
      ];
      socket.write(`${head.join('\r\n')}\r\n\r\n${exchange.body}`);
    },
    destroy: () => socket.destroy(),
  };
  socket.on('data', (part: Buffer) => {
    buffer = buffer.length === 0 ? part : Buffer.concat([buffer, part]);
    const parse = (): boolean => current !== null && step();
    while (parse());
  });
  socket.on('error', (error) => fail(error.message));
  socket.on('close', () => {
    onGone(connection);
    if (place.at === 'until-close') {
      keep = false;
      finish();
    } else fail('the connection was closed');
  });
  return connection;
}
