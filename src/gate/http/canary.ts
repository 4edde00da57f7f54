/** Proof that a new credential works at an HTTP server, before any call of a client carries it. */
import { canaryProblem } from '../canary.ts';
import { asRotatedError, RotatedError } from '../../errors.ts';
import { openMcp } from '../../verify/mcp-client.ts';
import type { Entry, Launch } from '../entry.ts';
import { remoteLink } from '../remote-link.ts';
import type { ServerSettings } from '../settings.ts';
import type { Resolved } from '../source.ts';

/** Throws `swap-failed`: the server does not begin, or the declared call fails. */
export async function tryCanary(
  entry: Entry,
  launch: Extract<Launch, { kind: 'remote' }>,
  resolved: Resolved,
  { canary, startMs }: ServerSettings,
  ending: AbortSignal,
): Promise<void> {
  if (canary === null) return;
  const signal = AbortSignal.any([ending, AbortSignal.timeout(startMs)]);
  const start = remoteLink(launch);
  try {
    const client = await openMcp((_none, events) => start(resolved, events), signal);
    try {
      const answer = await client.request('tools/call', {
        name: canary.tool,
        arguments: canary.arguments,
      });
      if ('error' in answer)
        throw unfit(entry, `${canary.tool} answers error ${answer.error.code}`);
      const problem = canaryProblem(answer.result, canary.expect);
      if (problem !== null) throw unfit(entry, `${canary.tool} ${problem}`);
    } finally {
      await client.stop();
    }
  } catch (error) {
    if (ending.aborted) throw error;
    throw asRotatedError(error, 'none').code === 'swap-failed'
      ? error
      : unfit(entry, asRotatedError(error, 'none').message);
  }
}

function unfit({ name }: Entry, what: string): RotatedError {
  return new RotatedError(
    'swap-failed',
    `The new credential of ${name} is not used yet: the check of it failed (${what}).`,
    { next: 'It is tried again by itself; the old credential goes on serving.' },
  );
}
