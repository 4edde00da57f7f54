/** The lightest server there can be, over HTTP: prints `{"port"}`, ends with its stdin. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Message } from '../load/message.ts';
import { answerOf } from './echo-answers.ts';

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on('data', (part: Buffer) => parts.push(part));
  request.on('end', () => {
    const answer = answerOf(JSON.parse(Buffer.concat(parts).toString('utf8')) as Message);
    if (answer === null) response.writeHead(202).end();
    else response.writeHead(200, { 'content-type': 'application/json' }).end(answer);
  });
});
// A stall of this machine must not look like a client that rests.
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`);
});
process.stdin.on('end', () => process.exit(0)).resume();
