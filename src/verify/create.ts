/** Builds a verifier from its policy: which kinds of check there are besides the issuer's own. */
import { asRotatedError, RotatedError } from '../errors.ts';
import type { CheckSpec, VerifierContext } from './check.ts';
import { execVerifier } from './exec.ts';
import { httpVerifier } from './http.ts';
import { mcpVerifier } from './mcp.ts';
import type { Verifier } from './verifier.ts';

export type { CheckSpec, VerifierContext } from './check.ts';

/** Opens nothing. Throws `policy-invalid` where the policy asks for something that cannot work. */
export function createVerifier(spec: CheckSpec, context: VerifierContext): Verifier {
  const verifier = createCheck(spec, context);
  return {
    id: verifier.id,
    async verify(candidate, signal) {
      context.redactor.add(candidate.fields);
      try {
        signal.throwIfAborted();
        return await verifier.verify(candidate, signal);
      } catch (error) {
        const stopped = signal.aborted && error === signal.reason;
        throw about(
          candidate.secret,
          asRotatedError(stopped ? new DOMException('', 'AbortError') : error, 'none'),
        );
      }
    },
  };
}

function createCheck(spec: CheckSpec, context: VerifierContext): Verifier {
  switch (spec.kind) {
    case 'http':
      return httpVerifier(spec, context);
    case 'exec':
      return execVerifier(spec, context);
    case 'mcp':
      return mcpVerifier(spec, context);
    default:
      return spec satisfies never;
  }
}

/** What a call or a command says of itself, said of the secret that it was for. */
function about(secret: string, error: RotatedError): RotatedError {
  if (error.secret !== undefined) return error;
  const { effect, next, cause, retryAfterMs } = error;
  return new RotatedError(error.code, error.message, { effect, secret, next, cause, retryAfterMs });
}
