/** Any issuer that a command can speak to: one process for each call, JSON on stdin and stdout, no shell. */
import path from 'node:path';
import { runChild } from '../../src/child.ts';
import { asRotatedError, RotatedError } from '../../src/errors.ts';
import { assertOnlyOursToWrite } from '../../src/provider/ownership.ts';
import {
  defineProvider,
  type Fields,
  type Finding,
  type Minted,
  type ProviderContext,
  type ProviderSession,
  providerApiVersion,
  type Traits,
  type Verdict,
} from '../../src/provider/provider.ts';
import { type ExecOptions, optionsSchema, timeoutMsOf } from './options.ts';
import {
  type Call,
  errorIn,
  errorOfExit,
  mutating,
  plain,
  plainCredential,
  protocolVersion,
  readCredential,
  unreadable,
  withhold,
} from './protocol.ts';

/** A list of 10,000 keys is about as much. */
const answerBytesMax = 4 * 1024 * 1024;
/** At the deadline there is nothing left to wait for: the outcome is unknown either way. */
const killAfterMs = 200;

function traits(options: ExecOptions): Traits {
  const { check: _check, ...capabilities } = options.capabilities;
  const { liveMax, lifetimeSecondsMax, settleSeconds } = options.limits;
  return {
    strategy: options.strategy,
    crashClass: options.crashClass,
    limits: {
      liveMax: liveMax ?? Infinity,
      lifetimeSecondsMax: lifetimeSecondsMax ?? Infinity,
      settleSeconds,
    },
    revokeScope: options.revokeScope,
    capabilities: {
      ...capabilities,
      idempotent: options.crashClass === 'chosen' || options.crashClass === 'token',
    },
    leastPrivilege: options.leastPrivilege,
  };
}

export default defineProvider({
  apiVersion: providerApiVersion,
  id: 'exec',
  options: optionsSchema,
  traits,
  async open(options, context): Promise<ProviderSession> {
    return openSession(options, context, await programOf(options, context.directory));
  },
});

/** A program that others can change would be handed the admin credential. */
async function programOf({ command }: ExecOptions, directory: string): Promise<string> {
  const [program] = command;
  if (!program.includes('/')) return program;
  const file = path.resolve(directory, program);
  try {
    return await assertOnlyOursToWrite(file);
  } catch (error) {
    if (error instanceof RotatedError) throw error;
    throw new RotatedError('not-found', `The command ${program} was not found.`, {
      next: `Relative commands count from the policy file's folder, ${directory}.`,
    });
  }
}

function openSession(
  options: ExecOptions,
  context: ProviderContext,
  program: string,
): ProviderSession {
  const { secret, directory } = context;
  const shown = options.command[0];
  const { capabilities } = options;
  const passed = Object.fromEntries(
    options.passEnv.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value] as const];
    }),
  );

  /** The answer, parsed; `texts` clears what the command wrote for people of everything that it was given. */
  async function ask(
    call: Call,
    request: object,
    given: readonly Fields[],
    signal: AbortSignal,
  ): Promise<{ readonly answer: unknown; text(of: unknown): string }> {
    const admin = await adminOf(signal);
    const body = { protocol: protocolVersion, call, secret, admin: admin && plain(admin), request };
    const { stdout, exitCode } = await run(call, JSON.stringify(body), signal);
    const values = [admin ?? {}, ...given]
      .flatMap((fields) => Object.values(plain(fields)))
      .concat(Object.values(passed));
    return {
      answer: read(call, stdout, exitCode),
      text: (of) => withhold(typeof of === 'string' ? of : '', values),
    };
  }

  async function run(call: Call, input: string, signal: AbortSignal) {
    const [, ...args] = options.command;
    try {
      return await runChild({
        command: [program, ...args],
        cwd: directory,
        env: { ...options.env, ...passed },
        input,
        timeoutMs: timeoutMsOf(options),
        signal,
        outputBytesMax: answerBytesMax,
        killAfterMs,
      });
    } catch (error) {
      const { code, message, effect, next } = asRotatedError(error, 'unknown', secret);
      throw new RotatedError(code, message, {
        effect: mutating.has(call) ? effect : 'none',
        secret,
        next,
      });
    }
  }

  function read(call: Call, stdout: string, exitCode: number | null): unknown {
    let answer: unknown;
    try {
      answer = JSON.parse(stdout);
    } catch {
      // The parser's message quotes the text.
      if (exitCode !== 0) throw errorOfExit(exitCode, call, shown);
      throw unreadable(call, shown, 'is not one JSON value');
    }
    const error = errorIn(answer, call, shown);
    if (error !== null) throw error;
    // A result from a command that says it failed is not trusted.
    if (exitCode !== 0) throw errorOfExit(exitCode, call, shown);
    return answer;
  }

  async function adminOf(signal: AbortSignal): Promise<Fields | null> {
    try {
      return await context.admin(signal);
    } catch (error) {
      // A policy without `admin:` is fine here: the command may have its own way in.
      if (error instanceof RotatedError && error.code === 'policy-invalid') return null;
      throw error;
    }
  }

  async function change(call: 'disable' | 'enable' | 'revoke', ref: string, signal: AbortSignal) {
    await ask(call, { ref }, [], signal);
  }

  return {
    async check(signal): Promise<Finding[]> {
      if (!capabilities.check) return [unchecked(shown)];
      const { answer, text } = await ask('check', {}, [], signal);
      const findings = (answer as { findings?: unknown } | null)?.findings;
      if (!Array.isArray(findings)) throw unreadable('check', shown, 'holds no list of findings');
      return (findings as Finding[]).map((finding) => ({
        ...finding,
        message: text(finding.message),
        place: shown,
        why: text(finding.why),
        mend: text(finding.mend),
      }));
    },

    ...(options.crashClass !== 'chosen'
      ? {}
      : ({
          async prepare({ rotation, generation, current }, signal) {
            const request = { rotation, generation, current: current && plainCredential(current) };
            const given = current === null ? [] : [current.fields];
            const { answer } = await ask('prepare', request, given, signal);
            return readCredential(answer) ?? refuse('prepare');
          },
        } satisfies Pick<ProviderSession, 'prepare'>)),

    async mint(request, signal): Promise<Minted> {
      const { current, prepared } = request;
      const body = {
        rotation: request.rotation,
        generation: request.generation,
        name: request.name,
        idempotencyToken: request.idempotencyToken,
        inventory: request.inventory.map(({ ref }) => ref),
        predecessor: request.predecessor,
        current: current && plainCredential(current),
        prepared: prepared && plainCredential(prepared),
      };
      const given = [current?.fields ?? {}, prepared?.fields ?? {}];
      const { answer } = await ask('mint', body, given, signal);
      return readCredential(answer) ?? refuse('mint');
    },

    async verify(credential, signal): Promise<Verdict> {
      const { answer, text } = await ask(
        'verify',
        plainCredential(credential),
        [credential.fields],
        signal,
      );
      const verdict = answer as Verdict;
      return verdict?.ok === false ? { ...verdict, reason: text(verdict.reason) } : verdict;
    },

    revoke: (ref, signal) => change('revoke', ref, signal),

    ...(capabilities.disable
      ? {
          disable: (ref: string, signal: AbortSignal) => change('disable', ref, signal),
          enable: (ref: string, signal: AbortSignal) => change('enable', ref, signal),
        }
      : {}),

    ...(capabilities.list
      ? ({
          async *list(signal) {
            const { answer } = await ask('list', {}, [], signal);
            const credentials = (answer as { credentials?: unknown } | null)?.credentials;
            if (!Array.isArray(credentials)) {
              throw unreadable('list', shown, 'holds no list of credentials');
            }
            yield* credentials;
          },
        } satisfies Pick<ProviderSession, 'list'>)
      : {}),

    ...(capabilities.resolve
      ? ({
          async resolve(fields, signal) {
            const { answer } = await ask('resolve', { fields: plain(fields) }, [fields], signal);
            return (answer as { ref?: string | null } | null)?.ref ?? null;
          },
        } satisfies Pick<ProviderSession, 'resolve'>)
      : {}),

    async [Symbol.asyncDispose]() {},
  };

  function refuse(call: Call): never {
    throw unreadable(call, shown, 'is not an object with ref and fields');
  }
}

function unchecked(program: string): Finding {
  return {
    name: 'admin-unchecked',
    level: 'amber',
    message: `The command ${program} cannot say beforehand whether its admin credential suffices.`,
    why: 'A missing right shows only at the mint.',
    mend: 'Answer the call check, and declare the capability.',
  };
}
