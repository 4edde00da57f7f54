/** The smallest MCP server that a session can replace: it lives in this process, holds a key, and keeps a call when told to. */
import type { Link, LinkEnd, LinkEvents, StartLink } from '../../../src/gate/link.ts';
import { secretName } from '../protocol.ts';

/** One running server. */
export interface CheapProcess {
  readonly generation: number;
  readonly value: string;
  /** Calls that it keeps. */
  readonly kept: number;
  /** Answers what it keeps. */
  release(): void;
}

export interface CheapServer {
  readonly startLink: StartLink;
  /** Oldest first. */
  running(): readonly CheapProcess[];
}

interface Request {
  readonly id?: number | string;
  readonly method?: string;
  readonly params?: { readonly name?: string };
}

/** Calls of this tool are kept until `release`. */
export const keepTool = 'keep';
export const useTool = 'use';

/** `refuses`: generations with which it does not get through a handshake. */
export function createCheapServer(reference: string, refuses: readonly number[]): CheapServer {
  const running = new Set<CheapProcess>();

  const startLink: StartLink = ({ values, generations }, events) => {
    const ended = Promise.withResolvers<LinkEnd>();
    const keeping: Request[] = [];
    const generation = generations[secretName] ?? 0;
    const one: CheapProcess = {
      generation,
      value: values.get(reference)?.reveal() ?? '',
      get kept() {
        return keeping.length;
      },
      release: () => {
        for (const request of keeping.splice(0)) answer(events, request, { content: [] });
      },
    };
    running.add(one);
    const end = (): void => {
      running.delete(one);
      ended.resolve({ why: 'closed', exitCode: 0, signal: null, message: null });
    };
    const link: Link = {
      send: (frames) => {
        for (const line of frames.toString('utf8').split('\n')) {
          if (line === '') continue;
          const request = JSON.parse(line) as Request;
          if (request.id === undefined) continue;
          if (request.method === 'tools/call' && request.params?.name === keepTool) {
            keeping.push(request);
          } else if (refuses.includes(generation)) {
            answer(events, request, null);
          } else {
            answer(events, request, resultOf(request));
          }
        }
        return true;
      },
      // It answers at once, or when it is told to: nothing is left to be read.
      endInput: () => setImmediate(end),
      pause: () => undefined,
      resume: () => undefined,
      stop: (how) => {
        // As a process does: later, and after what it is still answering.
        setImmediate(end);
        if (how === 'gentle') one.release();
        return ended.promise;
      },
      ended: ended.promise,
    };
    return link;
  };
  return { startLink, running: () => [...running] };
}

function resultOf({ method }: Request): object {
  switch (method) {
    case 'initialize':
      return {
        protocolVersion: '2025-11-25',
        capabilities: { tools: {} },
        serverInfo: { name: 'cheap', version: '1.0.0' },
      };
    case 'tools/list':
      return {
        tools: [keepTool, useTool].map((name) => ({ name, inputSchema: { type: 'object' } })),
      };
    default:
      return { content: [] };
  }
}

function answer(events: LinkEvents, { id }: Request, result: object | null): void {
  const rest = result === null ? { error: { code: -32_000, message: 'no' } } : { result };
  const frame = Buffer.from(`${JSON.stringify({ jsonrpc: '2.0', id, ...rest })}\n`);
  queueMicrotask(() => events.onFrames([frame]));
}
