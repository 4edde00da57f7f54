/** The `operator` provider under contract: a small HTTP issuer whose keys only the test, as the person, can make. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { ContractSubject, DeclaredSkip, Variant } from '../../../src/provider/contract.ts';
import operator from '../../../providers/operator/index.ts';
import type { Minted } from '../../../src/provider/provider.ts';
import { startFaultProxy, startHostileServer } from '../../support/servers/fault-proxy.ts';
import { freePort } from '../../support/servers/free-port.ts';
import { boxed, contextOf, echoCanary, shifted } from './world.ts';

const byPerson =
  'a person makes and ends the keys; the provider is given none of the issuer’s powers';
const skips: readonly DeclaredSkip[] = [
  'a repeated mint gives the same credential',
  'preparing changes nothing outside',
  'at the limit a mint is refused and changes nothing',
  'a list shows what was minted, and not what was revoked',
  "a credential's id is found by its value",
  'revoking twice succeeds',
  'revoking what never existed succeeds and harms nothing',
  'a revoked credential is refused, its neighbour is not',
  'a revoke ends open sessions',
  'a disabled credential is refused until it is enabled',
  'a late revoke of an older credential spares its successors',
  'a mint whose answer is lost is recovered to exactly one credential',
  'missing rights show before the mint',
  'a mint without the right is denied and changes nothing',
].map((name) => ({ name, reason: byPerson }));

export async function operatorSubject(): Promise<ContractSubject> {
  /** Key → how often it is still refused. */
  const keys = new Map<string, number>();
  const server = createServer((request, response) => {
    const key = request.headers.authorization?.replace(/^Bearer /, '') ?? '';
    const refusals = keys.get(key);
    if (refusals !== undefined && refusals > 0) keys.set(key, refusals - 1);
    response.statusCode = refusals === 0 ? 200 : 401;
    response.end('{}');
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const here = { host: '127.0.0.1', port: (server.address() as AddressInfo).port };

  const supply = async (refusals = 0): Promise<Minted> => {
    const value = `key_${randomBytes(16).toString('hex')}`;
    keys.set(value, refusals);
    return { ref: `supplied-${randomBytes(4).toString('hex')}`, fields: boxed({ value }) };
  };

  return {
    name: 'operator',
    server: 'an HTTP issuer without an API for keys',
    version: process.version,
    provider: operator,
    skips,
    async world() {
      const resources = new AsyncDisposableStack();
      const at = ({ host, port }: typeof here, settleSeconds = 0): Variant => ({
        options: {
          instructions: 'Open the settings of the workspace and make a key.',
          link: 'https://issuer.example/settings/keys',
          verify: {
            url: `http://${host}:${port}/me`,
            headers: { Authorization: 'Bearer ${value}' },
            settleSeconds,
          },
        },
        context: contextOf('by-hand', null),
      });
      return {
        ...at(here),
        canaries: [echoCanary],
        wrong: (fields) => boxed({ value: shifted(fields['value']?.reveal() ?? '') }),
        supply: () => supply(),
        async silent() {
          const proxy = resources.use(await startFaultProxy(here));
          proxy.hang();
          return at(proxy);
        },
        async unreachable() {
          return at({ host: '127.0.0.1', port: await freePort() });
        },
        async hostile() {
          const started = Object.entries(nonsense).map(async ([name, answer]) => ({
            name,
            ...at(resources.use(await startHostileServer(Buffer.from(answer)))),
          }));
          return Promise.all(started);
        },
        async lagging() {
          return { ...at(here, 5), supply: () => supply(2) };
        },
        async sibling() {
          return { ...at(here), context: contextOf('by-hand-2', null), supply: () => supply() };
        },
        [Symbol.asyncDispose]: () => resources.disposeAsync(),
      };
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

const nonsense: Readonly<Record<string, string>> = {
  'a database': `\u0052\0\0\0\u0008${echoCanary}`,
  'a redirect elsewhere': `HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/${echoCanary}\r\nContent-Length: 0\r\n\r\n`,
  'an error that quotes': `HTTP/1.1 500 ${echoCanary}\r\nContent-Length: ${echoCanary.length}\r\n\r\n${echoCanary}`,
  'headers without end': `HTTP/1.1 200 OK\r\n${`X-${'y'.repeat(1_000)}: z\r\n`.repeat(200)}`,
  'a status that is none': 'HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n',
};
