/** The command `rotate init`: a first working policy, the schema for editors, and the key; overwrites nothing. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import { hasState } from '../../wiring/has-state.ts';
import { keySourceOf } from '../../wiring/places.ts';
import type { Call } from '../command.ts';
import { placesOf } from '../connect.ts';
import type { Exit } from '../exit.ts';

const policyName = 'first.yaml';
const schemaName = '.policy.schema.json';

const firstPolicy = `# yaml-language-server: $schema=${schemaName}
# A first policy: a random token, made here, kept in the embedded backend, replaced every month. Change it to what you need.
secrets:
  first-token:
    provider: { use: generated, kind: random }
    backend: local://first-token
    every: 30d
    grace: 1h
    # Who uses it: write it into a file and reload its reader. For http, exec and signal see docs/consumers.md.
    # consumers:
    #   - file: { path: /run/my-server/token.json, format: json, then: { signal: SIGHUP, pidfile: /run/my-server.pid } }
`;

export function configure(command: Command): void {
  command.addHelpText('after', '\nWrites into ./schedules, or the folder that --policies names.\n');
}

export async function run(call: Call): Promise<Exit> {
  const { io, options } = call;
  const places = placesOf(call);
  const policy = path.join(places.policies, policyName);
  const made: string[] = [];
  make(places.policies, () => {
    // Node's recursive mkdir never returns below /proc: where the folder above exists, it is not needed.
    const recursive = !existsSync(path.dirname(places.policies));
    if (!existsSync(places.policies)) mkdirSync(places.policies, { recursive, mode: 0o755 });
    if (writeNew(policy, firstPolicy)) made.push(policy);
  });
  const { policyJsonSchemaText } = await import('../../policy/json-schema.ts');
  const schema = path.join(places.policies, schemaName);
  make(schema, () => {
    if (writeNew(schema, policyJsonSchemaText())) made.push(schema);
  });
  const keyFile = places.key.kind === 'file' ? places.key.path : null;
  const isNewKey = keyFile !== null && !existsSync(keyFile);
  // A state that has sealed anything needs the key it was sealed with, not a fresh one.
  const around = { env: io.env, directory: io.directory };
  await keySourceOf(places.key, around, io.random, !hasState(places.state)).load();
  if (isNewKey) made.push(keyFile);
  if (options.json === true) {
    io.out(
      `${JSON.stringify({ ok: true, made, policies: places.policies, key: keyFile, state: places.state })}\n`,
    );
    return 'ok';
  }
  const usual = path.join(io.directory, 'schedules') === places.policies;
  const where = usual ? '' : ` --policies ${places.policies}`;
  const steps = [
    [`rotated --check${where}`, 'is all of it right?'],
    [`rotated${where}`, 'run the service'],
    ['rotate status', 'in another terminal'],
  ];
  const width = Math.max(...steps.map(([command = '']) => command.length));
  io.out(
    `${[
      ...made.map((file) => `made ${file}`),
      ...(made.length === 0 ? ['everything was there: nothing was changed'] : []),
      '',
      'Next:',
      ...steps.map(([command = '', what = '']) => `  ${command.padEnd(width)}   ${what}`),
      ...(keyFile === null
        ? []
        : [
            '',
            'Keep a copy of the key apart from the state: neither opens without the other.',
            `  key    ${keyFile}`,
            `  state  ${places.state}`,
          ]),
    ].join('\n')}\n`,
  );
  return 'ok';
}

/** False where it is there already. */
function writeNew(file: string, text: string): boolean {
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o644 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

function make(what: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw new RotatedError('refused', `${what} cannot be written (${code}).`, {
      next: 'Name a folder that you can write: --policies DIR.',
    });
  }
}
