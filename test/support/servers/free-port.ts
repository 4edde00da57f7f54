/** A loopback port that nobody listens on at the moment. */
import net from 'node:net';

/** Another process may take it before the server does: whoever starts one tries again on failure. */
export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  if (address === null || typeof address === 'string') throw new Error('no port was given');
  return address.port;
}

export const startAttempts = 3;
