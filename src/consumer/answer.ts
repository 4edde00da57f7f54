/** What a consumer may answer when asked which generation its instances serve, and how much of it is believed. */
import { z } from 'zod';
import { RotatedError } from '../errors.ts';
import type { InstanceReport } from './consumer.ts';

/** Longer answers are refused: a thousand instances take about a tenth of it. */
export const answerBytesMax = 1_048_576;
const instancesMost = 10_000;

const instanceSchema = z.object({
  // Ids are journalled and printed, so they hold nothing that could forge a line of a log.
  id: z.string().regex(/^[\x21-\x7e][\x20-\x7e]{0,199}$/),
  generation: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER).nullable(),
  state: z.enum(['serving', 'idle', 'gone', 'unreachable']),
  /** Only in answers about several secrets at once (a report file). */
  secret: z.string().optional(),
});
const answerSchema = z.object({ instances: z.array(instanceSchema).max(instancesMost) });

/**
 * `{"instances":[{"id","generation","state"}]}`, further members ignored. Throws `invalid-answer` for anything else: an
 * answer that is half understood could end a credential in use. An instance that names another `secret` is left out
 * where `mixed` (one file for several secrets), else a mistake.
 */
export function parseAnswer(
  text: string,
  { secret, place, mixed }: { secret: string; place: string; mixed: boolean },
): readonly InstanceReport[] {
  const parsed = answerSchema.safeParse(parseJson(text));
  if (!parsed.success) {
    // The paths only: messages of the parser may quote what was answered.
    const where = parsed.error.issues[0]?.path.map(String).join('.') ?? '';
    throw invalid(place, secret, where === '' ? 'is not what the protocol says' : `at ${where}`);
  }
  const all = parsed.data.instances;
  const ours = all.filter((each) => each.secret === undefined || each.secret === secret);
  if (!mixed && ours.length !== all.length) throw invalid(place, secret, 'is about another secret');
  if (new Set(ours.map((each) => each.id)).size !== ours.length) {
    throw invalid(place, secret, 'names an instance twice');
  }
  return ours.map(({ id, generation, state }) => ({ instance: id, generation, state }));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function invalid(place: string, secret: string, what: string): RotatedError {
  return new RotatedError('invalid-answer', `The report of ${place} cannot be used: ${what}.`, {
    secret,
    next: 'Answer {"instances":[{"id","generation","state"}]} as docs/consumers.md describes.',
  });
}
