/** Which secrets the policy folder names already, read leniently: a broken file is somebody else's to report. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import type { KnownPolicy } from './bundles.ts';

/** None where there is no such folder. */
export function knownPolicies(folder: string): readonly KnownPolicy[] {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => /^[^.].*\.ya?ml$/.test(name));
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => policiesIn(path.join(folder, name)));
}

function policiesIn(file: string): readonly KnownPolicy[] {
  let value: unknown;
  try {
    value = parse(readFileSync(file, 'utf8'));
  } catch {
    return [];
  }
  return Object.entries(record(record(value)['secrets'])).flatMap(([name, secret]) => {
    const { provider, backend } = record(secret);
    const reference = typeof backend === 'string' ? backend : record(backend)['ref'];
    const fields = record(record(backend)['fields']);
    const use = typeof provider === 'string' ? provider : record(provider)['use'];
    if (typeof reference !== 'string') return [];
    const [item = '', field] = reference.split('#');
    const named = field === undefined ? Object.keys(fields) : [field];
    return [
      {
        name,
        file,
        provider: typeof use === 'string' ? use : '',
        item,
        fields: named.length === 0 ? null : named,
      },
    ];
  });
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}
