/** The least a client says, in either era: a handshake, then echo and nothing else. Any server with an echo tool will do. */
import { type Call, fine, type Kind } from './ledger.ts';
import {
  clientCapabilities,
  clientInfo,
  type Era,
  modernMeta,
  protocolVersions,
  textOf,
} from './message.ts';
import type { Dialect, Plan } from './session.ts';

export function plainDialect(era: Era): Dialect {
  return {
    era,
    meta: era === 'modern' ? modernMeta : {},
    answer: ({ method }) => (method === 'ping' ? {} : undefined),
    thinkMs: () => 0,
    plan: (kind, call) => planOf(kind, call),
    open: async (session) => {
      if (era === 'modern') await session.ask('server/discover');
      else {
        await session.ask('initialize', {
          protocolVersion: protocolVersions.legacy,
          capabilities: clientCapabilities,
          clientInfo,
        });
        session.notify('notifications/initialized');
      }
      await session.ask('tools/list');
    },
  };
}

function planOf(kind: Kind, { id }: Call): Plan {
  if (kind !== 'plain') throw new Error(`No ${kind} here.`);
  return {
    method: 'tools/call',
    params: { name: 'echo', arguments: { message: id } },
    judge: (result) => {
      const text = textOf(result);
      return text === `Echo: ${id}` ? fine : { is: 'wrong', why: `echoed ${text}` };
    },
  };
}
