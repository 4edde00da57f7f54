/** One HTTP exchange on loopback, light enough for processes that live for 100 ms: no fetch. */
import { request, type Agent } from 'node:http';

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
}

export interface HttpAsk {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Keeps connections, for questions that may be asked again; without one each exchange has its own. */
  readonly agent?: Agent;
}

/** Rejects with node's own error (`ECONNREFUSED`, `ECONNRESET`), or the signal's. */
export function exchange(ask: HttpAsk, signal?: AbortSignal): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const outgoing = request(
    ask.url,
    {
      method: ask.method,
      agent: ask.agent ?? false,
      headers: { 'content-type': 'application/json', ...ask.headers },
      ...(signal === undefined ? {} : { signal }),
    },
    (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        resolve({
          status: response.statusCode ?? 0,
          text: Buffer.concat(parts).toString('utf8'),
        });
      });
    },
  );
  outgoing.on('error', reject);
  outgoing.end(ask.body);
  return promise;
}

export async function askJson<T>(ask: HttpAsk, signal?: AbortSignal): Promise<T> {
  const { status, text } = await exchange(ask, signal);
  if (status !== 200) throw new Error(`${ask.method} ${new URL(ask.url).pathname}: ${status}`);
  return JSON.parse(text) as T;
}
