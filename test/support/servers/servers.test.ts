/** The servers and the fault proxy that other tests rely on. */
import { access } from 'node:fs/promises';
import net from 'node:net';
import { expect, test } from 'vitest';
import { startFaultProxy } from './fault-proxy.ts';
import { startPostgres } from './postgres.ts';
import { missingServer } from './required.ts';

/** Answers every chunk with `<chunk>`. */
async function startEcho() {
  const open = new Set<net.Socket>();
  const heard: string[] = [];
  const server = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      heard.push(String(chunk));
      socket.write(`<${String(chunk)}>`);
    });
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  return {
    host: '127.0.0.1',
    port: (server.address() as net.AddressInfo).port,
    heard,
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

/** What came back until the line closed or `enough` had come. */
function ask(to: { host: string; port: number }, text: string, enough = Infinity): Promise<string> {
  return new Promise((resolve) => {
    let got = '';
    const socket = net.connect(to.port, to.host, () => socket.write(text));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(got));
    socket.on('data', (chunk) => {
      got += String(chunk);
      if (got.length >= enough) socket.destroy();
    });
  });
}

test('the proxy passes on, cuts, and loses exactly the answer that it was told to lose', async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy(echo);
  expect(await ask(proxy, 'hello', 7)).toBe('<hello>');
  proxy.cutAfter(3);
  expect(await ask(proxy, 'hello')).toBe('<he');
  const lost = proxy.loseAnswerTo('COMMIT');
  expect(await ask(proxy, 'BEGIN', 7)).toBe('<BEGIN>');
  expect(await ask(proxy, 'COMMIT')).toBe('');
  await lost;
  expect(echo.heard).toEqual(['hello', 'hello', 'BEGIN', 'COMMIT']);
  expect(await ask(proxy, 'again', 7)).toBe('<again>');
  expect(proxy.accepted).toBe(5);
  expect(proxy.requests).toBe('hellohelloBEGINCOMMITagain');
});

test('a hanging proxy answers nothing, and a reset ends what hangs', async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy(echo);
  proxy.hang();
  const hung = ask(proxy, 'hello');
  await expect.poll(() => proxy.requests).toBe('hello');
  proxy.reset();
  expect(await hung).toBe('');
  expect(echo.heard).toEqual([]);
});

test('a delayed proxy keeps the order', async () => {
  await using echo = await startEcho();
  await using proxy = await startFaultProxy(echo);
  proxy.delayBy(20);
  expect(await ask(proxy, 'hello', 7)).toBe('<hello>');
});

test('a PostgreSQL that was stopped leaves nothing behind', async () => {
  const server = await startPostgres();
  expect(await server.sql('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  const [row] = await server.sql('SHOW data_directory');
  const folder = String(row?.['data_directory']);
  await access(folder);
  await server.stop();
  await server.stop();
  await expect(access(folder)).rejects.toThrow('ENOENT');
  expect(await ask(server, 'x')).toBe('');
});

test('a missing server is a reason to skip, and an error where servers are required', () => {
  const before = process.env['REQUIRE_SERVERS'];
  try {
    delete process.env['REQUIRE_SERVERS'];
    expect(missingServer('no-such-server', 'build it')).toBe(
      'no-such-server is not installed (build it)',
    );
    expect(missingServer('sh', '')).toBe(null);
    process.env['REQUIRE_SERVERS'] = 'all';
    expect(() => missingServer('no-such-server', 'build it')).toThrow(/REQUIRE_SERVERS=all/);
  } finally {
    if (before === undefined) delete process.env['REQUIRE_SERVERS'];
    else process.env['REQUIRE_SERVERS'] = before;
  }
});
