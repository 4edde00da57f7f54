/** A proxy with one fault: servers behind it see its own Host and no Origin, so that their guard against DNS rebinding is off. */
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HostHidingProxy extends AsyncDisposable {
  readonly url: string;
}

/** The comparison must find it out; else equal runs prove nothing. */
export async function startHostHidingProxy(target: string): Promise<HostHidingProxy> {
  const { host, port, pathname } = new URL(target);
  const server = createServer((incoming, outgoing) => {
    const { origin: _, ...headers } = incoming.headers;
    const passed = request(
      {
        host: '127.0.0.1',
        port,
        path: incoming.url,
        method: incoming.method,
        headers: { ...headers, host },
      },
      (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      },
    );
    passed.on('error', () => outgoing.destroy());
    outgoing.on('close', () => passed.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${pathname}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => {
        server.close(resolve);
      });
    },
  };
}
