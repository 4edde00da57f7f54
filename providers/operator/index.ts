/** Issuers whose keys only a person can make: says what to do and where, and proves what the person hands in. */
import { RotatedError } from '../../src/errors.ts';
import {
  defineProvider,
  type Fields,
  type Provider,
  type ProviderSession,
  providerApiVersion,
  type Traits,
  type Verdict,
} from '../../src/provider/provider.ts';
import { type OperatorOptions, optionsSchema } from './options.ts';

type Fetch = typeof fetch;

/** More than any API key or PEM file; a person may well have copied the whole page. */
const valueLengthMax = 16_384;

function traits({ verify, liveMax }: OperatorOptions): Traits {
  return {
    strategy: 'operator',
    crashClass: 'blind',
    limits: {
      liveMax: liveMax ?? Infinity,
      lifetimeSecondsMax: Infinity,
      settleSeconds: verify?.settleSeconds ?? 0,
    },
    revokeScope: 'key',
    capabilities: {
      list: false,
      disable: false,
      lastUsed: false,
      tag: false,
      idempotent: false,
      resolve: false,
      // Without a way to try a key nobody can prove it dead; a person's word closes the debt.
      proof: verify === undefined ? 'none' : 'safe',
    },
    leastPrivilege: 'None: a person acts at the issuer with their own account.',
  };
}

/** `fetch` is given by tests. */
export function operatorProvider(fetch: Fetch): Provider<OperatorOptions> {
  return defineProvider({
    apiVersion: providerApiVersion,
    id: 'operator',
    options: optionsSchema,
    traits,
    async open(options, { secret }): Promise<ProviderSession> {
      return {
        async check() {
          if (options.verify !== undefined) return [];
          return [
            {
              name: 'verify-missing',
              level: 'amber',
              message: `Nothing tries a key that is handed in for ${secret}.`,
              why: 'A mistyped key would be put to use, and a revoked one cannot be proven dead.',
              mend: 'Add verify: a GET that only a working key gets through.',
            },
          ];
        },

        async mint(_request, signal) {
          signal.throwIfAborted();
          throw new RotatedError(
            'needs-person',
            `A person has to make the new key for ${secret}.`,
            {
              effect: 'none',
              secret,
              next: `${sentence(options.instructions, options.link)} Then hand it in: rotate supply ${secret}`,
            },
          );
        },

        async verify({ fields }, signal) {
          signal.throwIfAborted();
          const problem = malformed(options, fields);
          if (problem !== null) return { ok: false, kind: 'rejected', reason: problem };
          return options.verify === undefined
            ? { ok: true }
            : tryKey(fetch, options.verify, fields, secret, signal);
        },

        async revoke(ref, signal) {
          signal.throwIfAborted();
          const { revokeInstructions, revokeLink, link } = options;
          const what =
            revokeInstructions ?? `Revoke the replaced key of ${secret} (${ref}) at its issuer.`;
          throw new RotatedError(
            'needs-person',
            `A person has to revoke the old key of ${secret}.`,
            {
              effect: 'none',
              secret,
              next: sentence(what, revokeLink ?? link),
            },
          );
        },

        async [Symbol.asyncDispose]() {},
      };
    },
  });
}

export default operatorProvider((...args) => fetch(...args));

function sentence(text: string, link: string | undefined): string {
  return link === undefined ? text : `${text} ${link}`;
}

/** What went wrong when it was copied; null where it looks like a key. */
function malformed({ fields: names }: OperatorOptions, fields: Fields): string | null {
  // The backend may keep only some of them.
  const given = names.filter((name) => fields[name] !== undefined);
  if (given.length === 0) return `none of the fields ${names.join(', ')} is there`;
  for (const name of given) {
    const value = fields[name]?.reveal() ?? '';
    if (value.trim() === '') return `${name} is empty`;
    if (value.length > valueLengthMax) return `${name} is longer than ${valueLengthMax} characters`;
    const isPem = value.startsWith('-----BEGIN ');
    // A PEM file has line ends and a last empty line; in a key they are an accident of copying.
    if (!isPem && value !== value.trim()) return `${name} has spaces or line ends around it`;
    if (!isPem && hasControls(value)) return `${name} holds line ends or control characters`;
  }
  return null;
}

function hasControls(value: string): boolean {
  return value.split('').some((one) => one < ' ' || one === '\u007f');
}

type VerifyOptions = NonNullable<OperatorOptions['verify']>;

async function tryKey(
  fetch: Fetch,
  { url, headers, expect, reject, restricted }: VerifyOptions,
  fields: Fields,
  secret: string,
  signal: AbortSignal,
): Promise<Verdict> {
  const filled = Object.entries(headers).map(
    ([name, value]) => [name, fill(value, fields)] as const,
  );
  // HTTP headers carry Latin-1; fetch would throw an error that quotes the value.
  if (filled.some(([, value]) => /[^\t\x20-\x7e\x80-\xff]/.test(value))) {
    return { ok: false, kind: 'rejected', reason: 'the key cannot stand in an HTTP header' };
  }
  let status: number;
  try {
    // A redirect would carry the key to wherever the answer points.
    const response = await fetch(url, {
      method: 'GET',
      headers: Object.fromEntries(filled),
      redirect: 'manual',
      signal,
    });
    ({ status } = response);
    // The body is never read, however long it is.
    await response.body?.cancel().catch(() => undefined);
  } catch {
    throw new RotatedError(
      signal.aborted ? 'timeout' : 'unavailable',
      `The check of the key at ${new URL(url).host} got no answer.`,
      {
        effect: 'none',
        secret,
        next: 'Check that the address in verify.url can be reached from here.',
      },
    );
  }
  if (expect.includes(status)) return { ok: true };
  if (reject.includes(status))
    return { ok: false, kind: 'rejected', reason: `the issuer answered ${status}` };
  if (restricted.includes(status)) {
    return { ok: false, kind: 'restricted', reason: `the issuer answered ${status}` };
  }
  throw new RotatedError(
    status === 429 ? 'throttled' : 'unavailable',
    `The check of the key at ${new URL(url).host} answered ${status}, which says nothing about the key.`,
    {
      effect: 'none',
      secret,
      next: 'Try again later, or list the status under expect, reject or restricted.',
    },
  );
}

/** Every `${field}` was checked when the policy was read; one that the backend does not keep becomes empty. */
function fill(template: string, fields: Fields): string {
  return template.replaceAll(
    /\$\{([^}]*)\}/g,
    (_match, name: string) => fields[name]?.reveal() ?? '',
  );
}
