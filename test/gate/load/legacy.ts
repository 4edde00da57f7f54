/** How a client of the eras 2024-11-05 … 2025-11-25 speaks to server-everything: each kind of call, and what answers it. */
import type { Random } from '../../../src/clock.ts';
import { type Call, fine, type Kind, type Verdict } from './ledger.ts';
import {
  clientCapabilities,
  clientInfo,
  type Message,
  protocolVersions,
  textOf,
} from './message.ts';
import type { Dialect, Plan, Session } from './session.ts';

const watched = 'demo://resource/dynamic/text/1';
const idPattern = /\[([\w-]+)\]/;
/** So long a person thinks at most before an elicitation or sampling is answered: swaps happen meanwhile. */
const thinkMsMax = 250;

export interface LegacyOptions {
  readonly random: Random;
  readonly protocolVersion?: string;
  /** Values that no answer may contain. */
  readonly secrets?: () => readonly string[];
}

export function legacyDialect({
  random,
  protocolVersion = protocolVersions.legacy,
  secrets = () => [],
}: LegacyOptions): Dialect {
  let updates = 0;
  const plans: Readonly<Record<Kind, (call: Call) => Plan>> = {
    plain: ({ id }) =>
      tool('echo', { message: id }, (text) => text === `Echo: ${id}` || `echoed ${text}`),
    progress: (call) => ({ ...operation(call, between(random, 0.05, 0.4), 5), steps: 5 }),
    long: (call) => operation(call, between(random, 1, 2), 1),
    cancel: (call) => ({ ...operation(call, 2, 2), cancelAfterMs: between(random, 10, 300) }),
    elicitation: ({ id }) =>
      tool('trigger-elicitation-request', {}, (text) => text.includes(`"${id}"`) || text),
    sampling: ({ id }) =>
      tool(
        'trigger-sampling-request',
        { prompt: `[${id}]`, maxTokens: 10 },
        (text) => text.includes(`sampled ${id}"`) || text,
      ),
    // Switching the updates on sends one to every subscriber at once: so one that a swap dropped shows.
    subscription: () => {
      const before = updates;
      return tool('toggle-subscriber-updates', {}, (text) => {
        if (text.startsWith('Stopped')) return true;
        return updates > before || 'the subscription brought no update';
      });
    },
    list: () => ({
      method: 'tools/list',
      params: {},
      judge: ({ tools }) =>
        Array.isArray(tools) && tools.some(({ name }: { name: string }) => name === 'echo')
          ? fine
          : { is: 'wrong', why: 'a list without echo' },
    }),
    read: () => {
      const uri = `demo://resource/dynamic/text/${1 + Math.floor(random.fraction() * 1e6)}`;
      return {
        method: 'resources/read',
        params: { uri },
        judge: (result) =>
          JSON.stringify(result).includes(`"uri":"${uri}"`)
            ? fine
            : { is: 'wrong', why: `not ${uri}` },
      };
    },
    env: () =>
      tool('get-env', {}, (text) =>
        secrets().some((secret) => text.includes(secret)) ? 'the answer holds a live key' : true,
      ),
    ping: () => ({ method: 'ping', params: {}, judge: () => fine }),
  };
  return {
    era: 'legacy',
    meta: {},
    plan: (kind, call) => plans[kind](call),
    answer: (message) => answerOf(message),
    thinkMs: () => between(random, 0, thinkMsMax),
    open: async (session: Session) => {
      session.listen(({ method, params }) => {
        if (method === 'notifications/resources/updated' && params['uri'] === watched) updates += 1;
      });
      await session.ask('initialize', {
        protocolVersion,
        capabilities: clientCapabilities,
        clientInfo,
      });
      session.notify('notifications/initialized');
      await session.ask('tools/list');
      await session.ask('resources/subscribe', { uri: watched });
      await session.ask('logging/setLevel', { level: 'warning' });
    },
  };
}

function tool(
  name: string,
  args: Readonly<Record<string, unknown>>,
  check: (text: string) => string | true,
): Plan {
  return {
    method: 'tools/call',
    params: { name, arguments: args },
    judge: (result): Verdict => {
      const outcome = check(textOf(result));
      return outcome === true ? fine : { is: 'wrong', why: outcome.slice(0, 200) };
    },
  };
}

/** Its duration is told again in the answer: made unique, it says whose answer that is. */
function operation({ id }: Call, seconds: number, steps: number): Plan {
  const serial = Number(id.slice(id.lastIndexOf('-') + 1));
  const duration = Math.round(seconds * 100) / 100 + serial / 1e9;
  return tool('trigger-long-running-operation', { duration, steps }, (text) =>
    text.includes(`Duration: ${duration} seconds, Steps: ${steps}.`) ? true : text,
  );
}

function answerOf({ method, params }: Message): Readonly<Record<string, unknown>> | undefined {
  const id = idPattern.exec(JSON.stringify(params ?? {}))?.[1] ?? 'nobody';
  switch (method) {
    case 'ping':
      return {};
    case 'roots/list':
      return { roots: [{ uri: 'file:///tmp', name: 'tmp' }] };
    case 'elicitation/create':
      return { action: 'accept', content: { name: id, check: true } };
    case 'sampling/createMessage':
      return {
        role: 'assistant',
        model: 'load',
        stopReason: 'endTurn',
        content: { type: 'text', text: `sampled ${id}` },
      };
    default:
      return undefined;
  }
}

function between(random: Random, from: number, to: number): number {
  return from + random.fraction() * (to - from);
}
