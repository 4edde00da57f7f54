/** The exec check: a command of the operator that tries the credential, judged by its exit code alone. */
import { resolve } from 'node:path';
import { runChild } from '../child.ts';
import {
  cannotTell,
  type CheckSpec,
  fieldOf,
  refuseReserved,
  type VerifierContext,
} from './check.ts';
import type { Candidate, Verifier } from './verifier.ts';

/** sysexits.h: a temporary failure, try again. */
const exitTemporary = 75;

/**
 * The fields go by environment, with `ROTATED_SECRET` and `ROTATED_GENERATION`; never as arguments. Exit 0: works. 1: does
 * not. 75: cannot tell now. Any other exit, a signal or the deadline throws. What the command prints goes nowhere.
 */
export function execVerifier(
  spec: Extract<CheckSpec, { kind: 'exec' }>,
  { directory }: VerifierContext,
): Verifier {
  const [program, ...args] = spec.command;
  const command = [program.includes('/') ? resolve(directory, program) : program, ...args] as const;
  const place = `The check ${program}`;
  return {
    id: `exec:${program}`,
    async verify(candidate, signal) {
      const { exitCode, endedBy } = await runChild({
        command,
        cwd: directory,
        env: {
          ...environment(spec, candidate, place),
          ROTATED_SECRET: candidate.secret,
          ROTATED_GENERATION: `${candidate.generation}`,
        },
        timeoutMs: spec.timeoutMs,
        signal,
      });
      if (exitCode === 0) return { ok: true };
      if (exitCode === 1) {
        return { ok: false, kind: 'rejected', reason: `${place} says that it does not work` };
      }
      throw cannotTell(
        candidate,
        exitCode === exitTemporary ? 'unavailable' : 'invalid-answer',
        `${place} ended with ${endedBy ?? `exit code ${exitCode}`}`,
        'Run the command by hand: 0 means that it works, 1 that it does not, 75 that it cannot tell now.',
      );
    },
  };
}

function environment(
  spec: Extract<CheckSpec, { kind: 'exec' }>,
  candidate: Candidate,
  place: string,
): Record<string, string> {
  const names = spec.env ?? Object.fromEntries(Object.keys(candidate.fields).map((f) => [f, f]));
  return Object.fromEntries(
    Object.entries(names).map(([name, field]) => {
      refuseReserved(candidate, name, place);
      return [name, fieldOf(candidate, field, place).reveal()];
    }),
  );
}
