/** What the cases of the contract share: sessions as the rotation machine would open them, requests as it would make them. */
import { inspect } from 'node:util';
import { RotatedError } from '../errors.ts';
import type { Fields } from '../secret/secret.ts';
import { secretFields } from './answers.ts';
import type { ContractWorld, Variant } from './contract-world.ts';
import type {
  Credential,
  CredentialInfo,
  Minted,
  MintRequest,
  Prepared,
  Provider,
  ProviderSession,
  Traits,
} from './provider.ts';
import { optionsOrThrow } from './registry.ts';
import { wrapSession } from './wrapper.ts';

export interface Kit extends AsyncDisposable {
  readonly provider: Provider;
  readonly world: ContractWorld;
  readonly traits: Traits;
  /** Ends with the case. */
  readonly signal: AbortSignal;
  /** A session of the world, or of one of its faults; closed with the kit. */
  open(variant?: Variant, deadlineMs?: number): Promise<ProviderSession>;
  /** As the rotation machine would fill it in: inventory and prepared material first. */
  request(session: ProviderSession, current?: Credential | null): Promise<MintRequest>;
  /** A whole mint; where a person makes keys, what they would hand in. */
  mint(session: ProviderSession, current?: Credential | null): Promise<Minted>;
  list(session: ProviderSession): Promise<readonly CredentialInfo[]>;
  /** From now on these values are looked for in what is printed. */
  learn(fields: Fields): void;
  learnAdmin(variant: Variant): Promise<void>;
  /** Every value seen or used so far that must not be printed. */
  secretValues(): readonly string[];
}

/** Long for a loopback server, short for a person who waits for the suite. */
const usualDeadlineMs = 20_000;

export function createKit(provider: Provider, world: ContractWorld): Kit {
  const stop = new AbortController();
  const { signal } = stop;
  const { traits } = optionsOrThrow(provider, world.options, world.context.secret);
  const sessions: ProviderSession[] = [];
  const values = new Set<string>(world.canaries ?? []);
  let count = 0;

  function learn(fields: Fields): void {
    for (const value of Object.values(secretFields(fields))) values.add(value.reveal());
  }

  async function list(session: ProviderSession): Promise<readonly CredentialInfo[]> {
    const infos: CredentialInfo[] = [];
    if (session.list !== undefined) for await (const info of session.list(signal)) infos.push(info);
    return infos;
  }

  async function request(
    session: ProviderSession,
    current: Credential | null = null,
  ): Promise<MintRequest> {
    const { context } = world;
    const rotation = context.random.bytes(6).toString('hex');
    const base = { secret: context.secret, rotation, generation: ++count, current };
    const inventory = await list(session);
    const prepared: Prepared | null = (await session.prepare?.(base, signal)) ?? null;
    if (prepared !== null) learn(prepared.fields);
    return {
      ...base,
      name: `rotated-${context.secret}-${rotation}-1`,
      idempotencyToken: context.random.bytes(16).toString('hex'),
      inventory,
      prepared,
      predecessor: null,
    };
  }

  return {
    provider,
    world,
    traits,
    signal,
    list,
    request,
    async open(variant = world, deadlineMs = usualDeadlineMs) {
      const opened = optionsOrThrow(provider, variant.options, variant.context.secret);
      const session = wrapSession(await provider.open(opened.options, variant.context), {
        secret: variant.context.secret,
        deadlineMs,
        // Redacts nothing: what a provider says must be clean by itself.
        redactor: { add: learn, redact: (text) => text },
        clock: variant.context.clock,
        signal,
        traits: opened.traits,
      });
      sessions.push(session);
      return session;
    },
    async mint(session, current = null) {
      if (world.supply !== undefined) {
        const supplied = await world.supply();
        learn(supplied.fields);
        return supplied;
      }
      return session.mint(await request(session, current), signal);
    },
    learn,
    async learnAdmin({ context }) {
      try {
        learn(await context.admin(signal));
      } catch {
        // No admin credential: nothing to look for.
      }
    },
    secretValues: () => [...values].filter((value) => value.length >= 6),
    async [Symbol.asyncDispose]() {
      for (const session of sessions) await session[Symbol.asyncDispose]();
      stop.abort();
    },
  };
}

/** The RotatedError that `work` ends in; fails where it succeeds, or throws something else. */
export async function failureOf(work: () => Promise<unknown>, what: string): Promise<RotatedError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof RotatedError) return error;
    throw new Error(`${what}: threw something other than a RotatedError`, { cause: error });
  }
  throw new Error(`${what}: succeeded`);
}

/** Everything that any logger could print of it. */
export function printedForms(what: unknown): string {
  const error = what instanceof Error ? `${what.stack ?? ''} ${String(what.cause)}` : '';
  return `${inspect(what, { depth: 10, showHidden: true, getters: true })} ${JSON.stringify(what)} ${error}`;
}

export function check(condition: boolean, claim: string): asserts condition {
  if (!condition) throw new Error(`does not hold: ${claim}`);
}
