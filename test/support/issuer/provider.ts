/** The test issuer as a provider plugin: its traits follow the crash class that the policy names. */
import { z } from 'zod';
import { RotatedError } from '../../../src/errors.ts';
import {
  defineProvider,
  Secret,
  type CredentialInfo,
  type Minted,
  type ProviderContext,
  type ProviderSession,
  type Traits,
  type Verdict,
} from '../../../src/provider/provider.ts';
import { exchange, type HttpAnswer, type HttpAsk } from './call.ts';

const schema = z.strictObject({
  url: z.string(),
  principal: z.string(),
  crashClass: z.enum(['chosen', 'token', 'listable', 'blind']),
  strategy: z
    .enum(['overlap', 'alternate', 'roll-grace', 'roll-hard', 'self-generated'])
    .default('overlap'),
  liveMax: z.int().positive().nullable().default(null),
  settleSeconds: z.number().nonnegative().default(0),
  /** What this issuer cannot do, though its class could. */
  without: z.array(z.enum(['disable', 'lastUsed', 'resolve', 'tag', 'list'])).default([]),
  revokeScope: z.enum(['key', 'family']).default('key'),
  proof: z.enum(['safe', 'harmful', 'none']).default('safe'),
  /** Presents the policy's admin credential, its field `key`, at administrative calls. */
  authenticate: z.boolean().default(false),
});

/** Begins the values of class `chosen`, which are made here, so that a scan for leaks finds them. */
export const chosenPrefix = 'chosen-9dK1-';

export type TestIssuerOptions = z.infer<typeof schema>;

/** How a call reaches the issuer: HTTP, or in the same process for simulations. */
export type Send = typeof exchange;

export function testIssuerOver(send: Send) {
  return defineProvider<TestIssuerOptions>({
    apiVersion: 1,
    id: 'test-issuer',
    options: schema,
    traits: traitsOf,
    open: async (options, context) => openSession(options, context, send),
  });
}

export const testIssuer = testIssuerOver(exchange);

function traitsOf(options: TestIssuerOptions): Traits {
  const { crashClass, without } = options;
  const can = (what: (typeof without)[number]) => !without.includes(what);
  const list = crashClass !== 'blind' && can('list');
  return {
    strategy: options.strategy,
    crashClass,
    limits: {
      liveMax: options.liveMax ?? Infinity,
      lifetimeSecondsMax: Infinity,
      settleSeconds: options.settleSeconds,
    },
    revokeScope: options.revokeScope,
    capabilities: {
      list,
      disable: can('disable'),
      lastUsed: list && can('lastUsed'),
      tag: list && can('tag'),
      idempotent: crashClass === 'chosen' || crashClass === 'token',
      resolve: can('resolve'),
      proof: options.proof,
    },
    leastPrivilege: 'create, list, disable and delete keys of its own principal',
  };
}

function openSession(
  options: TestIssuerOptions,
  context: ProviderContext,
  send: Send,
): ProviderSession {
  const root = `${options.url}/p/${encodeURIComponent(options.principal)}`;
  const { crashClass } = options;
  const capabilities = traitsOf(options).capabilities;

  async function admin(ask: HttpAsk, changes: boolean, signal: AbortSignal): Promise<HttpAnswer> {
    const key = options.authenticate ? (await context.admin(signal))['key'] : undefined;
    const headers = key === undefined ? {} : { authorization: `Bearer ${key.reveal()}` };
    return call(send, { ...ask, headers }, changes, context.secret, signal);
  }

  const keyPath = (ref: string) => `${root}/keys/${encodeURIComponent(ref)}`;
  const able = (verb: 'disable' | 'enable') => async (ref: string, signal: AbortSignal) => {
    const ask = { method: 'POST', url: `${keyPath(ref)}/${verb}` } as const;
    expectOk(await admin(ask, true, signal), true, context.secret);
  };

  const session: ProviderSession = {
    check: async (signal) => {
      const { status } = await admin({ method: 'GET', url: `${root}/check` }, false, signal);
      return status === 200
        ? [{ name: 'admin-works', level: 'green', message: 'The admin credential is accepted.' }]
        : [{ name: 'admin-refused', level: 'red', message: `The issuer answers ${status}.` }];
    },

    mint: async (request, signal) => {
      const { prepared, predecessor } = request;
      const body = {
        name: request.name,
        scopes: predecessor?.scopes,
        ...(crashClass === 'token' && { token: request.idempotencyToken }),
        ...(prepared !== null && {
          ref: prepared.ref,
          value: prepared.fields['value']?.reveal(),
        }),
      };
      const ask = { method: 'POST', url: `${root}/keys`, body: JSON.stringify(body) } as const;
      const answer = await admin(ask, true, signal);
      expectOk(answer, true, context.secret);
      return mintedOf(answer.text, prepared?.fields['value'], context.secret);
    },

    verify: async (credential, signal): Promise<Verdict> => {
      const value = credential.fields['value'];
      if (value === undefined) return { ok: false, kind: 'rejected', reason: 'no value' };
      const headers = { authorization: `Bearer ${value.reveal()}` };
      const ask = { method: 'GET', url: `${root}/verify`, headers } as const;
      const answer = await call(send, ask, false, context.secret, signal);
      if (answer.status === 401) return { ok: false, kind: 'rejected', reason: 'refused' };
      expectOk(answer, false, context.secret);
      const seen = parse(answer.text, false, context.secret);
      return {
        ok: true,
        identity: String(seen['ref']),
        scopes: seen['scopes'] as readonly string[],
        expiresAt: (seen['expiresAt'] as number | null) ?? undefined,
      };
    },

    revoke: async (ref, signal) => {
      const answer = await admin({ method: 'DELETE', url: keyPath(ref) }, true, signal);
      if (answer.status !== 404) expectOk(answer, true, context.secret);
    },

    [Symbol.asyncDispose]: async () => {},
  };

  if (crashClass === 'chosen') {
    session.prepare = async (request) => ({
      ref: `chosen-${request.rotation}-${request.generation}`,
      fields: {
        value: new Secret(chosenPrefix + context.random.bytes(24).toString('base64url')),
      },
    });
  }
  if (capabilities.disable) {
    session.disable = able('disable');
    session.enable = able('enable');
  }
  if (capabilities.resolve) {
    session.resolve = async (fields, signal) => {
      const body = JSON.stringify({ value: fields['value']?.reveal() });
      const answer = await admin({ method: 'POST', url: `${root}/resolve`, body }, false, signal);
      expectOk(answer, false, context.secret);
      return parse(answer.text, false, context.secret)['ref'] as string | null;
    };
  }
  if (capabilities.list) {
    session.list = async function* (signal) {
      const answer = await admin({ method: 'GET', url: `${root}/keys` }, false, signal);
      expectOk(answer, false, context.secret);
      const { keys } = parse(answer.text, false, context.secret) as {
        keys: readonly Readonly<Record<keyof CredentialInfo, unknown>>[];
      };
      for (const key of keys) {
        yield Object.fromEntries(
          Object.entries(key).filter(([, value]) => value !== null),
        ) as unknown as CredentialInfo;
      }
    };
  }
  return session;
}

/** `changes`: whether a lost answer leaves the outside in an unknown state. */
async function call(
  send: Send,
  ask: HttpAsk,
  changes: boolean,
  secret: string,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  try {
    return await send(ask, signal);
  } catch (error) {
    if (signal.aborted) {
      const effect = changes ? 'unknown' : 'none';
      throw new RotatedError('timeout', 'The issuer did not answer in time.', { effect, secret });
    }
    const refused = (error as { code?: unknown }).code === 'ECONNREFUSED';
    throw new RotatedError('unavailable', 'The connection to the issuer broke.', {
      effect: refused || !changes ? 'none' : 'unknown',
      secret,
      next: 'Check that the issuer runs.',
    });
  }
}

function expectOk(answer: HttpAnswer, changes: boolean, secret: string): void {
  const { status, text } = answer;
  if (status === 200) return;
  const message = `The issuer answers ${status}.`;
  if (status === 401) throw new RotatedError('unauthenticated', message, { secret });
  if (status === 403) throw new RotatedError('denied', message, { secret });
  if (status === 404) throw new RotatedError('not-found', message, { secret });
  if (status === 409 && text.includes('limit-reached')) {
    throw new RotatedError('limit-reached', 'The issuer allows no further key.', { secret });
  }
  if (status === 409) throw new RotatedError('conflict', message, { secret });
  // This issuer documents that 429 and 503 come before any change, other server errors may come after it.
  if (status === 429) throw new RotatedError('throttled', message, { secret });
  const effect = changes && status !== 503 ? 'unknown' : 'none';
  throw new RotatedError('unavailable', message, { secret, effect });
}

function parse(text: string, changes: boolean, secret: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch {
    // Said below, without the text: it may hold anything.
  }
  throw new RotatedError('invalid-answer', 'The issuer answered with something else than JSON.', {
    effect: changes ? 'unknown' : 'none',
    secret,
  });
}

function mintedOf(text: string, chosen: Secret | undefined, secret: string): Minted {
  const seen = parse(text, true, secret);
  const { ref, value } = seen;
  const own = chosen ?? (typeof value === 'string' ? new Secret(value) : undefined);
  if (typeof ref !== 'string' || own === undefined) {
    const detail = { effect: 'unknown', secret } as const;
    throw new RotatedError('invalid-answer', 'The issuer named no key in its answer.', detail);
  }
  return {
    ref,
    fields: { value: own },
    scopes: seen['scopes'] as readonly string[],
    owner: String(seen['owner']),
    expiresAt: (seen['expiresAt'] as number | null) ?? undefined,
  };
}
