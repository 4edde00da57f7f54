/** The command `rotate supply`: takes a credential that a person made, from a hidden prompt or stdin, never from arguments. */
import type { Command } from 'commander';
import { RotatedError } from '../../errors.ts';
import { type Fields, Secret } from '../../secret/secret.ts';
import { addReasonOption, askOf, type Call, collect, only } from '../command.ts';
import { withService } from '../connect.ts';
import { type Exit, worst } from '../exit.ts';
import { follow } from '../follow.ts';
import { addWaitOption, printOutcomes, waitOf } from '../outcomes.ts';

const bytesMax = 64 * 1024;
/** What a provider with one field calls it. */
const soleField = 'value';

export function configure(command: Command): void {
  command
    .option(
      '--field <name>',
      'a field it has; repeatable. Several on stdin: one JSON object. Default: value',
      collect,
      [],
    )
    .addHelpText('after', '\nExample: pass show search-key | rotate supply search\n');
  addReasonOption(command);
  addWaitOption(command);
}

export async function run(call: Call): Promise<Exit> {
  const secret = only(call.args, 'supply');
  const patienceMs = waitOf(call);
  const names = call.options['field'] as string[];
  const fields = await readFields(call, secret, names.length === 0 ? [soleField] : names);
  return withService(call, 'act', async ({ service, note }) => {
    const started = await service.supply(secret, fields, askOf(call));
    const outcomes = await follow(call, service, [started], { patienceMs, waitingIs: 'ok' });
    printOutcomes(call, outcomes, note);
    return worst(outcomes.map((one) => one.exit));
  });
}

async function readFields(call: Call, secret: string, names: readonly string[]): Promise<Fields> {
  const { io } = call;
  if (!io.inIsTerminal) return fieldsOf(await io.readIn(bytesMax), secret, names);
  const fields: Record<string, Secret> = {};
  for (const name of names) {
    const what = name === soleField ? 'the new credential' : name;
    const value = await io.ask(`${secret}, ${what} (not shown): `, true);
    if (value === null || value === '') throw nothing(secret);
    fields[name] = new Secret(value);
  }
  return fields;
}

/** Never repeats what came in. */
function fieldsOf(text: string, secret: string, names: readonly string[]): Fields {
  const [first] = names;
  if (first !== undefined && names.length === 1) {
    // One newline at the end is echo's, not the credential's.
    const value = text.replace(/\r?\n$/, '');
    if (value === '') throw nothing(secret);
    return { [first]: new Secret(value) };
  }
  const object = parseObject(text);
  const given = object === null ? [] : Object.keys(object);
  const same = given.length === names.length && names.every((name) => given.includes(name));
  if (object === null || !same) {
    throw new RotatedError('usage', 'stdin is not a JSON object with exactly these fields.', {
      secret,
      next: `Hand in {${names.map((name) => `"${name}": "…"`).join(', ')}}.`,
    });
  }
  return Object.fromEntries(
    Object.entries(object).map(([name, value]) => {
      if (typeof value !== 'string' || value === '') throw nothing(secret);
      return [name, new Secret(value)];
    }),
  );
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}

function nothing(secret: string): RotatedError {
  return new RotatedError('usage', 'Nothing was handed in.', {
    secret,
    next: 'Type the credential at the prompt, or pipe it in.',
  });
}
