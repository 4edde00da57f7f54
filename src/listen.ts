/** How an address to listen on is written on the command line. */
import { RotatedError } from './errors.ts';

/** `PORT`, `HOST:PORT` or `[V6]:PORT`; the host is this machine alone where it is left out. */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:[\]]+):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  if (match === null || port > 65_535) {
    throw new RotatedError('usage', `${JSON.stringify(text)} is no address to listen on.`, {
      next: 'Write it like --listen 127.0.0.1:9464.',
    });
  }
  return { host: (match[1] ?? '127.0.0.1').replaceAll(/[[\]]/g, ''), port };
}
