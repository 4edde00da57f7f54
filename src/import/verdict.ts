/** Whether an entry can be changed at all, and the honest reason where it is left alone. */
import path from 'node:path';
import type { Node } from 'jsonc-parser';
import { propertiesOf, propertyOf, stringAt, valueAt } from './config-file.ts';
import { argumentsOf, commandOf, isContainer, urlOf, wrappedBy } from './launch.ts';
import type { Findings, LeftCode, Verdict } from './model.ts';

/** null where its keys can be moved. */
export function reasonToLeave(entry: Node, findings: Findings): Verdict | null {
  const command = commandOf(entry);
  const url = urlOf(entry);
  const args = argumentsOf(entry);
  if (
    entry.type !== 'object' ||
    args === undefined ||
    (command === undefined) === (url === undefined)
  ) {
    return left(
      'not-understood',
      `The entry has no plain command and no plain URL.${stays(findings)}`,
    );
  }
  if (wrappedBy(entry) !== null && findings.spots.length === 0) {
    return left('wrapped', 'It runs under rotate wrap already.');
  }
  if (command !== undefined && isContainer(command, args)) {
    return left(
      'container',
      `A container goes on when its client is stopped, so it cannot be swapped yet.${stays(findings)}`,
    );
  }
  if (findings.spots.length === 0) return withoutKeys(url, findings);
  return url === undefined ? unclearProcess(entry, findings) : unclearRemote(entry, url, findings);
}

function withoutKeys(url: string | undefined, { passed }: Findings): Verdict {
  const indirect = passed.filter(({ why }) => why !== 'placeholder');
  const [first] = indirect.length > 0 ? indirect : passed;
  if (first !== undefined) {
    const what = {
      reference: 'is a reference already',
      variable: 'is a variable that the client fills in',
      placeholder: 'is a placeholder that nobody filled in',
      file: 'is the path of a file',
    }[first.why];
    return left('variable', `No plaintext key: ${first.name || 'its argument'} ${what}.`);
  }
  return url === undefined
    ? left('no-key', 'No plaintext key is in it.')
    : left(
        'signs-in-itself',
        'No key is in it: the client signs in by itself (OAuth), or needs none.',
      );
}

function unclearProcess(entry: Node, findings: Findings): Verdict | null {
  const env = valueAt(entry, 'env');
  const command = commandOf(entry) ?? '';
  const inWords = findings.spots.some(({ where }) => where === 'argument');
  if (findings.spots.some(({ node }) => node === valueAt(entry, 'command'))) {
    return left('not-understood', `Its command is a whole command line.${stays(findings)}`);
  }
  if (
    inWords &&
    /^(?:(?:ba|z|da|k|fi)?sh|cmd|powershell|pwsh)(?:\.exe)?$/.test(path.basename(command))
  ) {
    return left(
      'not-understood',
      `A shell reads its arguments: a value filled into them could be read as a command.${stays(findings)}`,
    );
  }
  const twice = propertiesOf(env).find(({ key }) => propertyOf(env, `${key}_REF`) !== undefined);
  if (twice === undefined) return null;
  return left(
    'not-understood',
    `Both ${twice.key} and ${twice.key}_REF are set: remove one of them.${stays(findings)}`,
  );
}

function unclearRemote(entry: Node, url: string, findings: Findings): Verdict | null {
  if (['oauth', 'auth', 'headersHelper'].some((key) => propertyOf(entry, key) !== undefined)) {
    return left('signs-in-itself', `The client signs in to it by itself.${stays(findings)}`);
  }
  if (!/^https?:\/\//.test(url)) {
    return left('not-understood', `Its address is no http or https URL.${stays(findings)}`);
  }
  const type = stringAt(entry, 'type') ?? stringAt(entry, 'transport');
  const place = URL.parse(url)?.pathname ?? '';
  if (type === 'sse' || (type === undefined && /\/sse\/?$/.test(place))) {
    return left(
      'transport',
      `It speaks SSE, the transport of 2024: rotate wrap speaks Streamable HTTP.${stays(findings)}`,
    );
  }
  const headers = valueAt(entry, 'headers');
  const isPlain = propertiesOf(headers).every(({ value }) => value.type === 'string');
  return isPlain ? null : left('not-understood', `A header of it is no text.${stays(findings)}`);
}

/** The keys that are found and cannot be moved are said, since they go on standing there. */
function stays({ spots }: Findings): string {
  const count = spots.reduce((sum, spot) => sum + spot.keys.length, 0);
  if (count === 0) return '';
  return count === 1 ? ' Its plaintext key stays.' : ` Its ${count} plaintext keys stay.`;
}

function left(code: LeftCode, reason: string): Verdict {
  return { kind: 'left', left: code, reason };
}
