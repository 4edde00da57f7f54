/** What the builders of a policy's parts share: how a mistake is reported, and lists, spans, paths, references. */
import path from 'node:path';
import type { z } from 'zod';
import type { PolicyContext } from './context.ts';
import type { CronTable } from '../schedule/cron-table.ts';
import type { Path } from './document.ts';
import { parseDuration } from './duration.ts';
import { formatReference, parseReference } from './reference.ts';

export interface Report {
  (
    path: Path,
    code: string,
    message: string,
    more?: { readonly example?: string; readonly at?: 'key' | 'value' },
  ): void;
}

export interface BuildTools {
  readonly crons: CronTable;
  readonly memo: ScheduleMemo;
  readonly context: PolicyContext;
  readonly report: Report;
  /** False where the shape below this path has mistakes: what stands there is of unknown form. */
  readonly isSound: (path: Path) => boolean;
  /** Validates a provider's options; reports their mistakes. */
  readonly options: (use: string, schema: z.ZodType, options: unknown, path: Path) => void;
  /** The folder of the policy file, absolute. */
  readonly directory: string;
}

/** What was found out about expressions and zones, so that 10,000 policies alike ask once. Owned by the caller. */
export interface ScheduleMemo {
  readonly gaps: Map<string, number | null>;
  readonly mistakes: Map<string, string | null>;
  readonly zones: Map<string, boolean>;
}

export function createScheduleMemo(): ScheduleMemo {
  return { gaps: new Map(), mistakes: new Map(), zones: new Map() };
}

/** What is of known form in a map: the other keys are left out, so that those get their checks all the same. */
export function soundOnly<Map extends object>(
  map: Map,
  at: Path,
  { isSound }: Pick<BuildTools, 'isSound'>,
): Partial<Map> {
  return Object.fromEntries(
    Object.entries(map).filter(([key]) => isSound([...at, key])),
  ) as Partial<Map>;
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** One or many: each with its own place in the file. */
export function asList<Item>(
  value: Item | readonly Item[] | undefined,
  at: Path,
): readonly (readonly [Item, Path])[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) return [[value as Item, at]];
  return (value as readonly Item[]).map((item, index) => [item, [...at, index]] as const);
}

export function positive(
  text: string | undefined,
  otherwise: number,
  at: Path,
  { report }: Pick<BuildTools, 'report'>,
): number {
  const ms = durationOr(text, otherwise);
  if (ms <= 0) report(at, 'bad-duration', 'This has to be longer than nothing.');
  return ms;
}

/** A path of a policy: relative ones count from its folder. */
export function resolvePath(text: string, { directory }: Pick<BuildTools, 'directory'>): string {
  return path.resolve(directory, text);
}

/** A program that is written as a path counts from the policy's folder, a bare name is looked up in PATH. */
export function resolveCommand(
  command: readonly [string, ...string[]],
  tools: Pick<BuildTools, 'directory'>,
): [string, ...string[]] {
  const [program, ...rest] = command;
  return [program.includes('/') ? resolvePath(program, tools) : program, ...rest];
}

/** Canonical text of a reference whose backend exists; reports it where it does not. */
export function buildReference(
  text: string,
  at: Path,
  { context, report }: Pick<BuildTools, 'context' | 'report'>,
): string {
  const parsed = parseReference(text);
  if ('wrong' in parsed) return text;
  const { scheme } = parsed.reference;
  if (!context.backends.has(scheme)) {
    const have = [...context.backends].sort().join(', ');
    report(at, 'unknown-backend', `This version has no backend for ${scheme}://. It has: ${have}.`);
  }
  return formatReference(parsed.reference);
}

export function durationOr(text: string | undefined, otherwise: number): number {
  return text === undefined ? otherwise : (parseDuration(text) ?? otherwise);
}
