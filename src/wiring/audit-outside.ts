/** The audit trail outside the database, composed: which sinks there are, who feeds them, what their copies say of the state. */
import { type CheckpointKey, checkpointKey } from '../audit/checkpoint.ts';
import { compareCopy } from '../audit/copy.ts';
import { type Shipping, type ShippingTiming, startShipping } from '../audit/shipping.ts';
import { parseSink, sinkName, type SinkSpec } from '../audit/sink-spec.ts';
import { type AuditSink, execSink, fileSink } from '../audit/sinks.ts';
import type { Clock, Random } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import type { Actor, Journal } from '../journal/journal.ts';
import type { Log } from '../rotation/ports.ts';
import type { Service } from '../rotation/service.ts';
import { fileLines } from './audit-copies.ts';

/** How long a command may take for one batch of lines. */
const commandTimeoutMs = 30_000;

export interface SinkCheck {
  readonly sink: string;
  readonly lines: number;
  readonly checkpoints: number;
  readonly problem: string | null;
  /** Why its copy could not be looked at; null where it was. */
  readonly unchecked: string | null;
}

type StateAnswer = Awaited<ReturnType<Service['auditVerify']>>;

/** `Service.auditVerify`, with what the sinks say: `ok` and `problem` are about all of it. */
export interface AuditAnswer extends StateAnswer {
  readonly sinks: readonly SinkCheck[];
}

export interface OutsideOptions {
  /** As `findPlaces` gives them. */
  readonly sinks: readonly string[];
  readonly journal: Journal;
  /** Where commands run. */
  readonly directory: string;
  readonly checkpointSeed: Uint8Array;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly timing: Partial<ShippingTiming>;
}

export interface AuditOutside {
  /** Owns the state under this fence: lines are delivered until it is finished or dropped. Once. */
  ship(fence: number, actor: Actor): Promise<Shipping>;
  /** New lines were committed. */
  poke(): void;
  /** What a person should know of the sinks. */
  warnings(): Promise<readonly string[]>;
  compare(state: StateAnswer): Promise<AuditAnswer>;
}

export function auditOutside(options: OutsideOptions): AuditOutside {
  const { journal } = options;
  const specs = options.sinks.map((text) => ({ text, spec: parseSink(text, '/') }));
  const key = checkpointKey(options.checkpointSeed);
  let shipping: Shipping | null = null;
  return {
    ship: async (fence, actor) => {
      const { clock, random, log, timing } = options;
      const sinks = specs.map(({ text, spec }) => sinkOf(text, spec, options.directory));
      const parts = { sinks, journal, fence, checkpoints: key, clock, random, log, actor, timing };
      shipping = await startShipping(parts);
      return shipping;
    },
    poke: () => shipping?.poke(),
    warnings: async () =>
      shipping === null
        ? waiting(
            journal,
            specs.map(({ text }) => text),
          )
        : failing(shipping),
    compare: async (state) => {
      const rows = new Map((await journal.auditSinks()).map((row) => [row.sink, row.seq]));
      const sinks: SinkCheck[] = [];
      for (const { text, spec } of specs) {
        sinks.push(await checkOf(text, spec, rows.get(text) ?? 0, journal, key));
      }
      const wrong = sinks.find(({ problem }) => problem !== null);
      const problem =
        state.problem ?? (wrong === undefined ? null : `${wrong.sink}: ${wrong.problem}`);
      return { ...state, ok: problem === null, problem, sinks };
    },
  };
}

function sinkOf(text: string, spec: SinkSpec, cwd: string): AuditSink {
  if (spec.kind === 'file') return fileSink(spec.path);
  return execSink(spec.command, { key: text, cwd, timeoutMs: commandTimeoutMs });
}

async function failing(shipping: Shipping): Promise<string[]> {
  return (await shipping.states()).flatMap(({ name, behind, failing }) => {
    if (failing === null) return [];
    const { error, since } = failing;
    const next = error.next === '' ? '' : ` Next: ${error.next}`;
    return [
      `Audit sink ${name} fails since ${new Date(since).toISOString().slice(0, 19)}Z, ${behind} lines wait for it: ${error.message}${next}`,
    ];
  });
}

/** Nobody delivers now, as far as this process can see. */
async function waiting(journal: Journal, sinks: readonly string[]): Promise<string[]> {
  if (sinks.length === 0 || (await journal.currentLease()) !== null) return [];
  const head = (await journal.auditHead())?.seq ?? 0;
  const rows = new Map((await journal.auditSinks()).map((row) => [row.sink, row.seq]));
  return sinks.flatMap((sink) => {
    const behind = head - (rows.get(sink) ?? 0);
    if (behind <= 0) return [];
    return [
      `${behind} audit lines wait for the sink ${sinkName(sink)}: they go there when rotated runs.`,
    ];
  });
}

async function checkOf(
  text: string,
  spec: SinkSpec,
  acknowledged: number,
  journal: Journal,
  { publicKey }: CheckpointKey,
): Promise<SinkCheck> {
  const sink = sinkName(text);
  const nothing = { sink, lines: 0, checkpoints: 0, problem: null, unchecked: null };
  if (spec.kind === 'exec') {
    const unchecked =
      'A command keeps it: get a copy from where it went, and rotate audit verify --file COPY';
    return { ...nothing, unchecked };
  }
  const auditLines: Journal['auditLines'] = (from, most) => journal.auditLines(from, most);
  try {
    const { lines, checkpoints, problem } = await compareCopy(fileLines([spec.path]), {
      auditLines,
      publicKey,
      acknowledged,
    });
    return { ...nothing, lines, checkpoints, problem };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    if (error instanceof RotatedError) throw error;
    if (code !== 'ENOENT') return { ...nothing, unchecked: `It cannot be read (${code}).` };
    const problem = acknowledged === 0 ? null : `It is gone, with ${acknowledged} lines.`;
    return { ...nothing, problem };
  }
}
