// A small MCP server for tests of `rotate wrap`: says what it was started with, and ends as it is told. Argument 1: its log.
import { appendFileSync, readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

const log = (line) => appendFileSync(process.argv[2], `${line}\n`);
const say = (message) => writeSync(1, `${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
let exitCode = 0;
log('started');
process.on('SIGTERM', () => {
  log('TERM');
  process.exit(15);
});

const results = {
  initialize: () => ({
    protocolVersion: '2025-11-25',
    capabilities: {},
    serverInfo: { name: 'echo', version: '1' },
  }),
  // Backwards: what is removed from answers is a value as it is.
  environment: ({ names }) =>
    Object.fromEntries(
      names.map((name) => [name, [...(process.env[name] ?? '')].reverse().join('')]),
    ),
  arguments: () => ({ words: process.argv.slice(3) }),
  file: ({ path }) => ({ text: [...readFileSync(path, 'utf8')].reverse().join('') }),
  // At its end it says so by this code.
  code: (params) => {
    exitCode = params.code;
    return {};
  },
  // Lines of one size until all are written; each write waits until the reader has room.
  flood: async ({ count, bytes }) => {
    const text = 'x'.repeat(bytes);
    for (let n = 1; n <= count; n++) {
      const line = JSON.stringify({
        jsonrpc: '2.0',
        method: 'notifications/message',
        params: { n, text },
      });
      if (!process.stdout.write(`${line}\n`))
        await new Promise((resolve) => process.stdout.once('drain', resolve));
      log(`wrote ${n}`);
    }
    log('wrote all');
    return {};
  },
};

const lines = createInterface({ input: process.stdin });
lines.on('line', async (line) => {
  const { id, method, params = {} } = JSON.parse(line);
  if (method === 'exit') process.exit(params.code);
  if (method === 'kill') process.kill(process.pid, params.signal);
  if (id !== undefined && results[method] !== undefined)
    say({ id, result: await results[method](params) });
});
lines.on('close', () => {
  log('EOF');
  process.exit(exitCode);
});
