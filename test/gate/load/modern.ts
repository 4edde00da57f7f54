/** How a client of 2026-07-28 speaks to the modern test server: each kind of call, and what answers it. */
import type { Random } from '../../../src/clock.ts';
import { watched } from '../servers/watched.ts';
import { type Call, fine, type Kind, type Verdict } from './ledger.ts';
import { callKey, modernMeta, textOf } from './message.ts';
import { nowMs } from './server-log.ts';
import type { Dialect, Plan, Session } from './session.ts';

const thinkMsMax = 250;
/** A change that is told later is lost: whoever waits for it has given up. */
const coveredWithinMs = 5_000;

export interface ModernOptions {
  readonly random: Random;
  /** Values that no answer may contain. */
  readonly secrets?: () => readonly string[];
}

export function modernDialect({ random, secrets = () => [] }: ModernOptions): Dialect {
  /** Calls that changed what is watched, and those whose change was told to the subscriber. */
  const touched = new Map<string, number>();
  const told = new Set<string>();
  /** When the subscriber was told, without a call's name, that anything may have changed: it looks at everything then. */
  const covered: number[] = [];
  const isCovered = (sinceMs: number) =>
    covered.some((atMs) => atMs >= sinceMs && atMs < sinceMs + coveredWithinMs);
  const plans: Readonly<Record<Kind, (call: Call) => Plan>> = {
    plain: ({ id }) =>
      tool('echo', { message: id }, (text) => text === `Echo: ${id}` || `echoed ${text}`),
    progress: ({ id }) => ({ ...operation(id, between(random, 50, 400), 5), steps: 5 }),
    long: ({ id }) => operation(id, between(random, 1_000, 2_000), 1),
    cancel: ({ id }) => ({ ...operation(id, 2_000, 2), cancelAfterMs: between(random, 10, 300) }),
    elicitation: ({ id }) =>
      asking('elicit', id, { action: 'accept', content: { name: `I ${id}` } }),
    sampling: ({ id }) =>
      asking('sample', id, {
        role: 'assistant',
        model: 'load',
        content: { type: 'text', text: `I ${id}` },
      }),
    // Some take effect while they are drained.
    subscription: ({ id }) =>
      tool(
        'touch',
        { afterMs: random.fraction() < 0.5 ? 0 : between(random, 0, 1_000) },
        (text) => {
          touched.set(id, nowMs());
          return text === 'Touched' || text;
        },
      ),
    list: () => ({
      method: 'tools/list',
      params: {},
      judge: ({ tools }) =>
        Array.isArray(tools) && tools.some(({ name }: { name: string }) => name === 'echo')
          ? fine
          : { is: 'wrong', why: 'a list without echo' },
    }),
    read: () => ({
      method: 'resources/read',
      params: { uri: watched },
      judge: (result) =>
        JSON.stringify(result).includes(`"uri":"${watched}"`)
          ? fine
          : { is: 'wrong', why: `not ${watched}` },
    }),
    env: () =>
      tool('env', {}, (text) =>
        secrets().some((secret) => text.includes(secret)) ? 'the answer holds a live key' : true,
      ),
    ping: () => ({
      method: 'server/discover',
      params: {},
      judge: ({ supportedVersions }) =>
        Array.isArray(supportedVersions) ? fine : { is: 'wrong', why: 'no versions' },
    }),
  };
  return {
    era: 'modern',
    meta: modernMeta,
    plan: (kind, call) => plans[kind](call),
    answer: () => undefined,
    thinkMs: () => between(random, 0, thinkMsMax),
    leftovers: () =>
      [...touched]
        .filter(([id, answeredAtMs]) => !told.has(id) && !isCovered(answeredAtMs))
        .map(([id]) => `the change by ${id} was not told`),
    open: async (session: Session) => {
      await session.ask('server/discover');
      await session.ask('tools/list');
      const acknowledged = new Promise<void>((resolve) => {
        session.listen(({ method, params }) => {
          if (method === 'notifications/subscriptions/acknowledged') resolve();
          if (method !== 'notifications/resources/updated') return;
          const call = (params['_meta'] as Record<string, unknown> | undefined)?.[callKey];
          if (typeof call === 'string') told.add(call);
          else covered.push(nowMs());
        });
      });
      // Answered at its end only; where it is refused, the acknowledgement is what fails.
      const listening = session.ask('subscriptions/listen', {
        notifications: { toolsListChanged: true, resourceSubscriptions: [watched] },
      });
      const refused = listening.then(() => {
        throw new Error('The subscription ended at once.');
      });
      // Once acknowledged, its end is the session's end.
      refused.catch(() => {});
      await Promise.race([acknowledged, refused]);
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

function operation(id: string, durationMs: number, steps: number): Plan {
  return tool(
    'operation',
    { durationMs, steps },
    (text) => text === `Done: ${id} in ${steps}` || text,
  );
}

/** The second round echoes the server's state, which only the process that asked can open. */
function asking(name: string, id: string, answer: Readonly<Record<string, unknown>>): Plan {
  const params = { name, arguments: {} };
  const last = tool(
    name,
    {},
    (text) => (text.includes(`Asked for ${id},`) && text.includes(`"I ${id}"`)) || text,
  );
  return {
    ...last,
    judge: (result) => {
      if (result['resultType'] !== 'input_required') return last.judge(result);
      const { requestState } = result;
      return { again: { ...params, requestState, inputResponses: { answer } } };
    },
  };
}

function between(random: Random, from: number, to: number): number {
  return from + random.fraction() * (to - from);
}
