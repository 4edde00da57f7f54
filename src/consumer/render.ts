/** What a rendered file says: the values and their generation as env lines, JSON, or a filled-in template. Pure. */
import { RotatedError } from '../errors.ts';
import type { Fields } from '../secret/secret.ts';

export type Format = 'env' | 'json' | 'template';

export interface Generation {
  readonly generation: number;
  readonly fields: Fields;
}

export interface Rendering {
  readonly secret: string;
  readonly role: 'user' | 'verifier';
  readonly format: Format;
  /** The template's text; null for the other formats. */
  readonly template: string | null;
  /** Newest last, at least one. */
  readonly live: readonly [Generation, ...Generation[]];
}

/** The text of the file. Throws `policy-invalid` where the format cannot hold the values; no message holds one. */
export function render(rendering: Rendering): string {
  const newest = rendering.live.at(-1) ?? rendering.live[0];
  switch (rendering.format) {
    case 'json':
      return renderJson(rendering, newest);
    case 'env':
      return renderEnv(rendering.secret, newest);
    case 'template':
      return renderTemplate(rendering, newest);
    default:
      return rendering.format satisfies never;
  }
}

/**
 * user: `{"secret","generation","fields":{…}}`. verifier: `{"secret","generation","accepted":[{"generation","fields"}]}`,
 * newest last; `generation` is the newest of them.
 */
function renderJson({ secret, role, live }: Rendering, newest: Generation): string {
  const head = { secret, generation: newest.generation };
  const body =
    role === 'user'
      ? { ...head, fields: reveal(newest.fields) }
      : {
          ...head,
          accepted: live.map(({ generation, fields }) => ({ generation, fields: reveal(fields) })),
        };
  return `${JSON.stringify(body, null, 2)}\n`;
}

const generationName = 'ROTATED_GENERATION';

/** `NAME=value` lines that sh, systemd's EnvironmentFile and dotenv read alike, and `docker --env-file` where unquoted. */
function renderEnv(secret: string, { generation, fields }: Generation): string {
  const lines = Object.entries(fields).map(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || name === generationName) {
      throw cannotHold(secret, `the field ${name} is no name for an environment variable`);
    }
    return `${name}=${quoteEnv(secret, name, value.reveal())}`;
  });
  return [`${generationName}=${generation}`, ...lines, ''].join('\n');
}

/** Bare where every reader agrees, else the quotes that keep it literal. */
function quoteEnv(secret: string, name: string, value: string): string {
  // Readers that go line by line would take the rest for another variable.
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\x00-\x08\x0a-\x1f\x7f]/.test(value)) {
    throw cannotHold(secret, `the field ${name} holds a line break or another control character`);
  }
  if (/^[A-Za-z0-9_./:@%+,=-]+$/.test(value)) return value;
  if (!value.includes("'")) return `'${value}'`;
  // Within double quotes, sh and systemd give these four a meaning, and a backslash takes it away.
  return `"${value.replaceAll(/[\\"$`]/g, '\\$&')}"`;
}

/** `${field}` and `${generation}`; everything else is literal, and `$${` stands for a literal `${`. */
function renderTemplate({ secret, template }: Rendering, { generation, fields }: Generation) {
  return (template ?? '').replaceAll(/\$\$\{|\$\{([^}]*)\}/g, (whole, name: string | undefined) => {
    if (name === undefined) return whole.slice(1);
    if (name === 'generation') return `${generation}`;
    const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (value === undefined) {
      throw new RotatedError(
        'policy-invalid',
        `The template of ${secret} names \${${name}}, which the secret does not have.`,
        { secret, next: `Use one of: ${[...Object.keys(fields), 'generation'].join(', ')}.` },
      );
    }
    return value.reveal();
  });
}

function reveal(fields: Fields): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.reveal()]));
}

function cannotHold(secret: string, problem: string): RotatedError {
  return new RotatedError(
    'policy-invalid',
    `${secret} cannot be written as env lines: ${problem}.`,
    {
      secret,
      next: 'Write `format: json` or use a template.',
    },
  );
}
