/** The benchmark's loopback issuer as a provider plugin: listable, every verb one call over kept connections. */
import { Agent, request } from 'node:http';
import { z } from 'zod';
import { RotatedError } from '../../src/errors.ts';
import { type CredentialInfo, defineProvider, Secret } from '../../src/provider/provider.ts';
import type { ProviderSession } from '../../src/provider/provider.ts';

const schema = z.strictObject({ url: z.string(), account: z.string() });

/** Notes the verbs in order, so that the bare calls can be the same ones. */
export function benchIssuer(note: (account: string, verb: Verb) => void) {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  return defineProvider<z.infer<typeof schema>>({
    apiVersion: 1,
    id: 'bench-issuer',
    options: schema,
    traits: () => ({
      strategy: 'overlap',
      crashClass: 'listable',
      limits: { liveMax: Infinity, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
      revokeScope: 'key',
      capabilities: {
        list: true,
        disable: false,
        lastUsed: false,
        tag: true,
        idempotent: false,
        resolve: false,
        proof: 'safe',
      },
      leastPrivilege: 'create, list and delete keys of its own account',
    }),
    open: async ({ url, account }) =>
      openSession(agent, `${url}/${account}`, (verb) => note(account, verb)),
  });
}

export type Verb = 'check' | 'list' | 'mint' | 'verify' | 'revoke';

function openSession(agent: Agent, root: string, note: (verb: Verb) => void): ProviderSession {
  const list = async (signal: AbortSignal) => {
    const { text } = await call(agent, 'GET', `${root}/keys`, signal);
    return JSON.parse(text) as CredentialInfo[];
  };
  return {
    check: async (signal) => {
      note('check');
      await list(signal);
      return [{ name: 'admin-works', level: 'green', message: 'The issuer answers.' }];
    },
    list: async function* (signal) {
      note('list');
      yield* await list(signal);
    },
    mint: async ({ name }, signal) => {
      note('mint');
      const body = JSON.stringify({ name });
      const { text } = await call(agent, 'POST', `${root}/keys`, signal, { body });
      const { ref, value } = JSON.parse(text) as { ref: string; value: string };
      return { ref, fields: { value: new Secret(value) } };
    },
    verify: async ({ fields }, signal) => {
      note('verify');
      const authorization = `Bearer ${fields['value']?.reveal() ?? ''}`;
      const { status } = await call(agent, 'GET', `${root}/verify`, signal, { authorization });
      return status === 200 ? { ok: true } : { ok: false, kind: 'rejected', reason: 'refused' };
    },
    revoke: async (ref, signal) => {
      note('revoke');
      await call(agent, 'DELETE', `${root}/keys/${ref}`, signal);
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

function call(
  agent: Agent,
  method: string,
  url: string,
  signal: AbortSignal,
  { body, authorization }: { body?: string; authorization?: string } = {},
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const headers = authorization === undefined ? {} : { authorization };
  const outgoing = request(url, { method, agent, headers, signal }, (response) => {
    let text = '';
    response.setEncoding('utf8');
    response.on('data', (part: string) => {
      text += part;
    });
    response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    response.on('error', reject);
  });
  outgoing.on('error', () => {
    reject(new RotatedError('unavailable', 'The issuer does not answer.', { effect: 'unknown' }));
  });
  outgoing.end(body);
  return promise;
}
