/** The 2026-07-28 server that the load is sent to: its tools, the same by stdio and HTTP. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  createRequestStateCodec,
  inputRequired,
  McpServer,
  type ServerContext,
} from '@modelcontextprotocol/server';
import { z } from 'zod';
import { callKey } from '../load/message.ts';
import { watched } from './watched.ts';

// Built once: over HTTP there is a server for each request.
const schemas = {
  message: z.object({ message: z.string() }),
  operation: z.object({ durationMs: z.number(), steps: z.number() }),
  touch: z.object({ afterMs: z.number() }),
  nothing: z.object({}),
  person: z.object({ name: z.string() }),
};

export interface ModernOptions {
  readonly key: string;
  /** Tells every subscriber of `watched`; `call` goes along in `_meta`. */
  touch(server: McpServer, call: string): Promise<void> | void;
}

/** Returns a factory: one server for each connection (stdio) or request (HTTP), all sealing with one key of this process. */
export function modernServers({ key, touch }: ModernOptions): () => McpServer {
  // As servers do that keep no state: only the process that asked can go on.
  const codec = createRequestStateCodec<{ call: string }>({ key: randomBytes(32) });
  const extras = Number(/-tools(\d+)/.exec(key)?.[1] ?? 0);
  return () => {
    const server = new McpServer(
      { name: 'modern-test-server', version: '1.0.0' },
      {
        capabilities: {
          tools: { listChanged: true },
          resources: { subscribe: true, listChanged: true },
        },
        requestState: { verify: codec.verify },
      },
    );
    const text = (value: string) => ({ content: [{ type: 'text' as const, text: value }] });
    server.registerTool(
      'echo',
      { description: 'Says it again.', inputSchema: schemas.message },
      ({ message }) => text(`Echo: ${message}`),
    );
    server.registerTool(
      'operation',
      {
        description: 'Takes its time.',
        inputSchema: schemas.operation,
      },
      async ({ durationMs, steps }, context) => {
        const { signal, _meta } = context.mcpReq;
        const call = callOf(context);
        const progressToken = _meta?.progressToken;
        for (let step = 1; step <= steps; step += 1) {
          await delay(durationMs / steps, undefined, { signal });
          if (progressToken === undefined) continue;
          await context.mcpReq.notify({
            method: 'notifications/progress',
            params: { progressToken, progress: step, total: steps },
          });
        }
        return text(`Done: ${call} in ${steps}`);
      },
    );
    const ask = (name: string, request: () => ReturnType<typeof inputRequired.elicit>) => {
      server.registerTool(
        name,
        { description: 'Asks back.', inputSchema: schemas.nothing },
        async (_, context) => {
          const call = callOf(context);
          const state = context.mcpReq.requestState<{ call: string }>();
          if (state !== undefined) {
            const answer = JSON.stringify(context.mcpReq.inputResponses?.['answer'] ?? null);
            return text(`Asked for ${state.call}, got ${answer}`);
          }
          return inputRequired({
            inputRequests: { answer: request() },
            requestState: await codec.mint({ call }),
          });
        },
      );
    };
    ask('elicit', () => inputRequired.elicit({ message: 'Who?', requestedSchema: schemas.person }));
    ask('sample', () =>
      inputRequired.createMessage({
        messages: [{ role: 'user', content: { type: 'text', text: 'Say it.' } }],
        maxTokens: 10,
      }),
    );
    server.registerTool(
      'touch',
      { description: 'Changes what is watched.', inputSchema: schemas.touch },
      async ({ afterMs }, context) => {
        if (afterMs > 0) await delay(afterMs);
        await touch(server, callOf(context));
        return text('Touched');
      },
    );
    server.registerTool(
      'env',
      { description: 'Tells everything.', inputSchema: schemas.nothing },
      () => text(JSON.stringify(process.env)),
    );
    for (let n = 1; n <= extras; n += 1) {
      server.registerTool(
        `extra-${n}`,
        { description: 'Opened by the key.', inputSchema: schemas.nothing },
        () => text('extra'),
      );
    }
    server.registerResource('watched', watched, {}, (uri) => ({
      contents: [{ uri: uri.href, text: 'watched' }],
    }));
    return server;
  };
}

export function callOf(context: ServerContext): string {
  return String(context.mcpReq._meta?.[callKey]);
}
