/** The command `rotate import`: moves plaintext keys out of MCP clients' configs, behind `rotate wrap`; `--undo` puts them back. */
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import { applyPlan, type Applied } from '../../import/apply.ts';
import { configBytesMax, readConfig } from '../../import/config-file.ts';
import { type Copies, openCopies } from '../../import/copies.ts';
import { knownPolicies } from '../../import/known-policies.ts';
import type { Program } from '../../import/launch.ts';
import { copiesBeside, gitAbove } from '../../import/leftovers.ts';
import { type Plan, planImport } from '../../import/plan.ts';
import { type ReadFile, readWhole } from '../../import/replace-file.ts';
import { statePlace } from '../../state-place.ts';
import { createSealer } from '../../secret/sealer.ts';
import { keySourceOf } from '../../wiring/places.ts';
import { addReasonOption, askOf, type Call } from '../command.ts';
import { placesOf, withService } from '../connect.ts';
import { type Exit, worst } from '../exit.ts';
import { planJson, planText } from '../import-text.ts';
import { undoAll } from '../import-undo.ts';
import type { Io } from '../io.ts';
import { plural, wrapLines } from '../print.ts';

/** More configs than one person has. */
const filesMost = 100;

export function configure(command: Command): void {
  command
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--yes', 'change it without asking')
    .option('--undo', 'put the files back as they were before the import')
    .option('--force', 'with --undo: even where the file was edited, or its key replaced, since')
    .addHelpText('after', '\nExample: rotate import ~/.claude.json ~/.cursor/mcp.json\n');
  addReasonOption(command);
}

export async function run(given: Call): Promise<Exit> {
  const call = withHomeOfPolicies(given);
  const { io, options, args } = call;
  if (args.length === 0 || args.length > filesMost) {
    throw new RotatedError('usage', 'import needs the config files of MCP clients.', {
      next: 'Name them: rotate import ~/.claude.json ~/.cursor/mcp.json',
    });
  }
  const isDry = options['dryRun'] === true;
  const isSure = options['yes'] === true;
  if (
    !isDry &&
    !isSure &&
    options['undo'] !== true &&
    (options.json === true || !io.inIsTerminal)
  ) {
    throw new RotatedError('usage', 'Nobody is there to ask whether the files may be changed.', {
      next: 'Look first: --dry-run. Then say --yes.',
    });
  }
  const files = await readAll(args.map((file) => path.resolve(io.directory, file)));
  if (options['undo'] === true) return undo(call, [...files.values()]);
  const plan = await makePlan(call, files);
  if (options.json !== true) io.out(planText(plan, widthOf(io)));
  const changes = plan.files.filter(({ edits }) => edits.length > 0).length;
  if (changes === 0 || isDry) {
    if (options.json === true) printJson(call, { ok: true, ...planJson(plan), applied: null });
    else if (changes === 0) io.out('Nothing to move: nothing was changed.\n');
    return 'ok';
  }
  if (!isSure && !(await agrees(call, changes))) {
    io.err('Nothing was changed.\n');
    return 'ok';
  }
  return apply(call, plan, files);
}

/** Everything before the person agrees: nothing is made, not even a state. */
async function makePlan(call: Call, files: ReadonlyMap<string, ReadFile>): Promise<Plan> {
  const { io } = call;
  const home = io.env['HOME'] ?? io.directory;
  for (const { file, uid } of files.values()) refuseForeign(file, uid);
  const configs = [...files.values()].map(({ file, bytes }) => readConfig({ file, bytes, home }));
  const program = thisProgram(call);
  if (/[\\/]_npx[\\/]/.test(program.script)) {
    throw new RotatedError('refused', 'This rotate runs from the cache of npx, which is emptied.', {
      next: 'Install it, so that the configs can name it: npm install --global rotated',
    });
  }
  return withService(call, 'imagine', ({ service }) =>
    planImport({
      program,
      searchPath: io.env['PATH'] ?? '',
      configs,
      policies: knownPolicies(placesOf(call).policies),
      look: (item, fields) => service.keep(item, fields, true, askOf(call)),
    }),
  );
}

async function apply(call: Call, plan: Plan, files: ReadonlyMap<string, ReadFile>): Promise<Exit> {
  const { io, options } = call;
  const places = placesOf(call);
  makeFolder(places.policies);
  return withService(call, 'act', async ({ service, note }) => {
    const ask = askOf(call);
    const applied = await applyPlan(plan, {
      keep: (item, fields) => service.keep(item, fields, false, ask),
      grant: async (grant) => {
        await service.allow(grant, ask);
      },
      copies: await copiesOf(call),
      policies: places.policies,
      random: io.random,
      now: () => io.clock.now(),
      files,
    });
    const values = plan.items.flatMap(({ fields }) => Object.values(fields));
    const left = [...files.values()].flatMap(({ real }) =>
      copiesBeside(real, values, configBytesMax),
    );
    const failed = applied.files.filter(({ error }) => error !== null);
    if (options.json === true) {
      printJson(call, {
        ok: failed.length === 0,
        ...planJson(plan),
        applied: {
          policies: applied.policies,
          files: applied.files.map(({ error, ...file }) => ({ ...file, error: error?.toJSON() })),
        },
        stillHeldBy: left,
        note,
      });
    } else {
      io.out(wrapLines(appliedText(plan, applied, files, left), widthOf(io)));
      if (note !== null) io.err(`${note}\n`);
    }
    return failed.length === 0 ? 'ok' : 'refused';
  });
}

function appliedText(
  plan: Plan,
  { policies, files }: Applied,
  read: ReadonlyMap<string, ReadFile>,
  left: readonly string[],
): string {
  const lines: string[] = [''];
  for (const { file, changed, error } of files) {
    if (changed) lines.push(`changed ${file}`);
    else
      lines.push(`left ${file} as it was: ${error?.message ?? ''}`, `  Next: ${error?.next ?? ''}`);
  }
  for (const file of policies) lines.push(`made ${file}`);
  for (const file of left) lines.push(`! ${file} is a copy that still holds a key: delete it.`);
  for (const { real, file } of read.values()) {
    const git = gitAbove(real);
    const isChanged = files.some((one) => one.file === file && one.changed);
    if (git !== null && isChanged) {
      lines.push(
        `! ${file} lies in a git work tree: if it was ever committed, its history holds the keys.`,
      );
    }
  }
  if (files.some(({ changed }) => changed)) {
    const names = plan.secrets.map(({ name }) => name).join(' ');
    lines.push(
      '',
      'Restart the clients: they start their servers through rotate wrap from now on.',
      'The keys stood in plaintext until now: replace them soon.',
      ...(names === '' ? [] : [`  Next: rotate run ${names}`]),
    );
  }
  return `${lines.join('\n')}\n`;
}

async function undo(call: Call, files: readonly ReadFile[]): Promise<Exit> {
  const { io, options } = call;
  return withService(call, 'look', async ({ service }) => {
    const undone = await undoAll(
      files.map(({ file }) => file),
      await copiesOf(call),
      service,
      { io, force: options['force'] === true },
    );
    const isOk = undone.every(({ error }) => error === null);
    if (options.json === true) {
      const shown = undone.map(({ error, ...one }) => ({ ...one, error: error?.toJSON() ?? null }));
      printJson(call, { ok: isOk, undone: shown });
      return isOk ? 'ok' : 'refused';
    }
    for (const { file, outcome, references, error } of undone) {
      if (error !== null) {
        io.err(`${file}: ${error.message} (${error.code})\n  Next: ${error.next}\n`);
        continue;
      }
      io.out(outcome === 'restored' ? `restored ${file}\n` : `${file} is as it was before\n`);
      if (references.length > 0) {
        io.out(`  still in the backend, with their policies: ${references.join(', ')}\n`);
      }
    }
    return worst(undone.map(({ error }): Exit => (error === null ? 'ok' : 'refused')));
  });
}

/** Sealed with the deployment's key, by whoever may use it. */
async function copiesOf(call: Call): Promise<Copies> {
  const { io } = call;
  const places = placesOf(call);
  const around = { env: io.env, directory: io.directory };
  const ring = await keySourceOf(places.key, around, io.random, false).load();
  return openCopies(places.state, createSealer(ring, io.random), io.random);
}

/** Each file once, however it is named, in the order given. */
async function readAll(names: readonly string[]): Promise<ReadonlyMap<string, ReadFile>> {
  const files = new Map<string, ReadFile>();
  const seen = new Set<string>();
  for (const name of names) {
    const read = await readWhole(name, configBytesMax);
    if (seen.has(read.real)) continue;
    seen.add(read.real);
    files.set(name, read);
  }
  return files;
}

/** Its clients run as its owner, who may not have keys out of another account's state. */
function refuseForeign(file: string, uid: number): void {
  const own = process.getuid?.();
  if (own === undefined || uid === own) return;
  throw new RotatedError('refused', `${file} belongs to another account (uid ${uid}).`, {
    next: 'Run this as that account: its clients get no key out of the state of another.',
  });
}

/** Whoever never named a folder for policies has a home for them, not whatever folder the terminal is in. */
function withHomeOfPolicies(call: Call): Call {
  const { io, options } = call;
  const here = path.resolve(io.directory, 'schedules');
  const isSaid = options.policies !== undefined || (io.env['ROTATED_POLICIES'] ?? '') !== '';
  if (isSaid || placesOf(call).policies !== here || existsSync(here)) return call;
  const config = io.env['XDG_CONFIG_HOME'] || path.join(io.env['HOME'] ?? io.directory, '.config');
  return { ...call, options: { ...options, policies: path.join(config, 'rotated', 'schedules') } };
}

function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  // Node's recursive mkdir never returns below /proc: where the folder above exists, it is not needed.
  mkdirSync(folder, { recursive: !existsSync(path.dirname(folder)), mode: 0o755 });
}

/** A client knows neither our PATH nor our folder. */
function thisProgram(call: Call): Program {
  // From the sources of a checkout, and from what a package was built to.
  const candidates = ['../../../bin/rotate.js', '../../../../bin/rotate.js'].map((up) =>
    fileURLToPath(new URL(up, import.meta.url)),
  );
  const script = candidates.find((file) => existsSync(file)) ?? candidates[0] ?? '';
  const { state } = placesOf(call);
  const { HOME } = call.io.env;
  // A client started from a desktop has nothing of the shell's environment.
  const usual = HOME === undefined ? null : statePlace(undefined, { HOME }, call.io.directory);
  return {
    node: process.execPath,
    script,
    options: state === usual ? [] : ['--state', state],
  };
}

async function agrees({ io }: Call, changes: number): Promise<boolean> {
  const answer = await io.ask(`Change ${plural(changes, 'file')}? [y/N] `, false);
  return /^y(es)?$/i.test(answer?.trim() ?? '');
}

function widthOf({ outIsTerminal, columns }: Io): number {
  return outIsTerminal ? columns : Number.POSITIVE_INFINITY;
}

function printJson({ io }: Call, value: object): void {
  io.out(`${JSON.stringify(value)}\n`);
}
