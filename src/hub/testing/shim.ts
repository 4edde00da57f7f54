/** A shim without a server: a process that holds the line of the feed, does what it is told on stdin, says what happens on stdout. */
import { createInterface } from 'node:readline';
import { connectDaemon } from '../../gate/feed/daemon.ts';
import { createFeedSource, type Connect } from '../../gate/feed/source.ts';
import { createConnection } from 'node:net';
import { once } from 'node:events';
import { systemClock, systemRandom } from '../../clock.ts';
import { asRotatedError } from '../../errors.ts';
import type { InstanceStatus } from '../../gate/source.ts';

interface Given {
  readonly socket?: string;
  readonly state?: string;
  readonly server: string;
  readonly hash: string;
  readonly references: readonly string[];
  readonly timing?: Record<string, number>;
}

type Order =
  | { readonly do: 'resolve' }
  | { readonly do: 'settings' }
  | { readonly do: 'report'; readonly status: InstanceStatus }
  | { readonly do: 'close' };

const given = JSON.parse(process.argv[2] ?? '{}') as Given;
const say = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);

const bySocket: Connect = async () => {
  const stream = createConnection(given.socket ?? '');
  await once(stream, 'connect');
  return stream;
};
const source = createFeedSource({
  connect:
    given.state === undefined
      ? bySocket
      : connectDaemon({
          env: process.env,
          directory: process.cwd(),
          state: given.state,
          references: given.references,
        }),
  asker: {
    server: given.server,
    hash: given.hash,
    what: 'npx -y search-mcp',
    references: given.references,
  },
  clock: systemClock(),
  random: systemRandom(),
  log: {
    info: (_fields, message) => say({ event: 'log', message }),
    warn: (_fields, message) => say({ event: 'log', message }),
  },
  ...(given.timing === undefined ? {} : { timing: given.timing }),
});
source.listen((notice) => say({ event: 'notice', ...notice }));
say({ event: 'started', instance: source.instance });

// Whoever started it has ended.
process.stdout.on('error', () => process.exit(1));
process.stdin.on('end', () => process.exit(1));

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Order;
  switch (order.do) {
    case 'resolve':
      await source.resolve(AbortSignal.timeout(30_000)).then(
        ({ values, generations }) =>
          say({
            event: 'answer',
            values: Object.fromEntries([...values].map(([name, value]) => [name, value.reveal()])),
            generations,
          }),
        (error: unknown) => say({ event: 'answer', error: asRotatedError(error, 'none').toJSON() }),
      );
      break;
    case 'settings':
      say({ event: 'settings', settings: source.settings() });
      break;
    case 'report':
      source.report(order.status);
      break;
    case 'close':
      await source.close();
      say({ event: 'closed' });
      process.exit(0);
    default:
      order satisfies never;
  }
}
