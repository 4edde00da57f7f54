/** Configs nobody wrote: keys in every place they are found, laid out in every way that JSON with comments allows. */
import fc from 'fast-check';
import type { EntryJson } from './importing.ts';

/** Sixteen characters that occur nowhere else, behind whatever an issuer puts before its keys. */
const canary = fc
  .tuple(
    fc.constantFrom('sk-', 'ghp_', 'tvly-', 'xoxb-', 'pw-', ''),
    fc.string({
      unit: fc.constantFrom(...'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'.split('')),
      minLength: 28,
      maxLength: 40,
    }),
  )
  .map(([prefix, text]) => `${prefix}CANARY7${text}`);
const plain = fc.constantFrom('-y', '--verbose', '@scope/some-mcp', '/home/anna/Documents', '8080');

const places: readonly ((value: string, others: readonly string[]) => EntryJson)[] = [
  (value, args) => ({
    command: '/usr/bin/npx',
    args,
    env: { SERVICE_API_KEY: value, LOG_LEVEL: 'info' },
  }),
  (value, args) => ({ command: '/usr/bin/npx', args: [...args, `--api-key=${value}`] }),
  (value, args) => ({ command: '/usr/bin/npx', args: ['--token', value, ...args] }),
  (value, args) => ({
    command: '/usr/bin/npx',
    args: [...args, `postgresql://u:${encodeURIComponent(`${value}/ä@`)}@db/shop?ssl=1`],
  }),
  (value) => ({
    url: `https://mcp.example.com/mcp?region=eu&apiKey=${value}#top`,
    headers: { 'X-Team': 'shop' },
  }),
  (value) => ({
    url: 'https://mcp.example.com/mcp',
    headers: { Authorization: `Bearer ${value}` },
  }),
  (value, args) => ({
    command: '/usr/bin/npx',
    args: [
      ...args,
      'mcp-remote',
      'https://x.example.com/mcp',
      '--header',
      `Authorization: Bearer ${value}`,
    ],
  }),
  (value, args) => ({
    command: '/usr/bin/npx',
    args,
    env: { CONFIG: JSON.stringify({ retries: 3, auth: { token: value }, url: 'https://x' }) },
  }),
];

const made = fc
  .tuple(fc.constantFrom(...places), canary, fc.array(plain, { maxLength: 3 }))
  .map(([place, value, others]) => place(value, others));
/** The same entry with its keys in another order, and what clients write beside them. */
const mixed = fc
  .tuple(made, fc.nat(6), fc.subarray(['type', 'disabled', 'alwaysAllow']))
  .map(([entry, by, more]) => {
    const others = {
      type: entry.url === undefined ? 'stdio' : 'http',
      disabled: false,
      alwaysAllow: ['search', 'get'],
    };
    const all = Object.entries({
      ...entry,
      ...Object.fromEntries(Object.entries(others).filter(([name]) => more.includes(name))),
    });
    const at = by % all.length;
    const turned: EntryJson = Object.fromEntries([...all.slice(at), ...all.slice(0, at)]);
    return turned;
  });
export const servers = fc.dictionary(
  fc.string({ unit: fc.constantFrom(...'abcXYZ09 _./-'.split('')), minLength: 1, maxLength: 12 }),
  mixed,
  { minKeys: 1, maxKeys: 5, noNullPrototype: true },
);

export interface Layout {
  readonly seed: number;
  readonly indent: string;
  readonly eol: string;
  readonly mark: string;
  /** JSON without comments and trailing commas, as most clients write it. */
  readonly plain: boolean;
}

export const layout: fc.Arbitrary<Layout> = fc.record({
  seed: fc.nat(),
  indent: fc.constantFrom('', '  ', '\t', '    '),
  eol: fc.constantFrom('\n', '\r\n'),
  mark: fc.constantFrom('', '\ufeff'),
  plain: fc.boolean(),
});

/** Comments are numbered: `// c7`. */
export function laidOut(
  value: unknown,
  { seed, indent, eol, mark, plain: isPlain }: Layout,
): string {
  let state = seed % 2_147_483_647 || 1;
  let comments = 0;
  const roll = (sides: number) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % sides;
  };
  const block = () => (isPlain || roll(6) > 0 ? '' : `/* c${++comments} */ `);
  const line = () => (isPlain || roll(5) > 0 ? '' : ` // c${++comments}`);
  const list = (open: string, close: string, parts: readonly string[], depth: number) => {
    const isInline = indent === '' || roll(3) === 0;
    const trailing = !isPlain && parts.length > 0 && roll(4) === 0 ? ',' : '';
    if (parts.length === 0) return `${open}${close}`;
    const last = parts.length - 1;
    const comma = (index: number) => (index === last ? trailing : ',');
    if (isInline) {
      const pad = roll(2) === 0 ? ' ' : '';
      const inner = parts.map((part, index) => `${part}${comma(index)}`).join(' ');
      return `${open}${pad}${inner}${pad}${close}`;
    }
    const lines = parts.map(
      (part, index) => `${indent.repeat(depth + 1)}${part}${comma(index)}${line()}`,
    );
    return `${open}${line()}\n${lines.join('\n')}\n${indent.repeat(depth)}${close}`;
  };
  const write = (one: unknown, depth: number): string => {
    if (Array.isArray(one)) {
      return list(
        '[',
        ']',
        one.map((part) => block() + write(part, depth + 1)),
        depth,
      );
    }
    if (typeof one !== 'object' || one === null) return JSON.stringify(one);
    const parts = Object.entries(one).map(([key, part]) => {
      const colon = ['": ', '":', '" : '][roll(3)] ?? '": ';
      return `${block()}${JSON.stringify(key).slice(0, -1)}${colon}${write(part, depth + 1)}`;
    });
    return list('{', '}', parts, depth);
  };
  return mark + `${write(value, 0)}${roll(2) === 0 ? '\n' : ''}`.replaceAll('\n', eol);
}
