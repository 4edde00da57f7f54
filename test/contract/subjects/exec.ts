/** The `exec` provider under contract, one subject for each crash class: an issuer in Python that keeps its keys in a file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ContractSubject, DeclaredSkip, Variant } from '../../../src/provider/contract.ts';
import exec from '../../../providers/exec/index.ts';
import type { CrashClass } from '../../../src/provider/provider.ts';
import { missingServer } from '../../support/servers/required.ts';
import { boxed, contextOf, echoCanary, shifted } from './world.ts';

/** null where it is installed; else the reason to skip by. */
export function missingPython(): string | null {
  return missingServer('python3', 'apt-get install --no-install-recommends python3');
}

const issuer = path.resolve(import.meta.dirname, '../../../providers/exec/fixtures/issuer.py');
const fullToken = 'canary-of-the-admin-77aa-full';
const weakToken = 'canary-of-the-admin-77aa-weak';

const hostile = [
  'quotes',
  'not-json',
  'endless',
  'huge-ref',
  'control-ref',
  'secret-ref',
  'array',
  'null',
  'number',
  'no-fields',
  'empty-value',
  'other-type',
  'pollution',
];

export async function execSubject(
  crashClass: CrashClass,
  version: string,
): Promise<ContractSubject> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-exec-'));
  const skips: DeclaredSkip[] = [
    { name: 'a revoke ends open sessions', reason: 'the issuer of this test knows no sessions' },
    { name: 'a person is told what to do, and nothing has changed', reason: 'no person is needed' },
  ];
  if (crashClass !== 'chosen') {
    skips.push({ name: 'preparing changes nothing outside', reason: 'nothing is prepared' });
  }
  if (crashClass === 'listable' || crashClass === 'blind') {
    skips.push({
      name: 'a repeated mint gives the same credential',
      reason: `crash class ${crashClass}: a repeated mint makes a second key`,
    });
  }
  if (crashClass === 'blind') {
    for (const name of [
      'a list shows what was minted, and not what was revoked',
      "a credential's id is found by its value",
    ]) {
      skips.push({ name, reason: 'crash class blind: the issuer neither lists nor resolves' });
    }
  }
  let worlds = 0;

  return {
    name: crashClass === 'listable' ? 'exec' : `exec-${crashClass}`,
    server: 'a Python command',
    version,
    provider: exec,
    skips,
    async world() {
      const isBlind = crashClass === 'blind';
      const state = path.join(folder, `${++worlds}.json`);
      const prefix = crashClass === 'token' ? 'token-' : '';
      const variant = (fault: string, token = fullToken, at = state): Variant => ({
        options: {
          command: ['python3', '-IS', issuer, at, fault],
          crashClass,
          capabilities: {
            list: !isBlind,
            tag: !isBlind,
            resolve: !isBlind,
            disable: true,
            check: true,
          },
          limits: { liveMax: 3, settleSeconds: 5 },
        },
        context: contextOf('by-command', { value: token }, folder),
      });
      return {
        ...variant(`${prefix}none`),
        canaries: [echoCanary],
        wrong: (fields) => boxed({ value: shifted(fields['value']?.reveal() ?? '') }),
        denied: async () => variant(`${prefix}none`, weakToken),
        loseAnswer: async () => variant(`${prefix}lose`),
        silent: async () => variant('silent'),
        unreachable: async () => variant('down'),
        // The same code reads every answer: the other classes need not hear each kind of nonsense again.
        hostile: async () =>
          (crashClass === 'listable' ? hostile : hostile.slice(0, 2)).map((name) => ({
            name,
            ...variant(name),
          })),
        lagging: async () => variant(`${prefix}lag`),
        sibling: async () => variant(`${prefix}none`, fullToken, `${state}-2`),
        async [Symbol.asyncDispose]() {},
      };
    },
    async [Symbol.asyncDispose]() {
      await rm(folder, { recursive: true, force: true });
    },
  };
}
