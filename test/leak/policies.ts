/** The policies of the leak check: one secret for each way in which something goes wrong around its value. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface Around {
  /** The folder of the policy files. */
  readonly folder: string;
  /** Where the file consumers write. */
  readonly out: string;
  readonly side: string;
  readonly issuer: string;
  readonly echoes: string;
}

export const classes = ['chosen', 'token', 'listable', 'blind'] as const;
const childFile = path.join(import.meta.dirname, 'child.ts');
const issuerFile = path.join(import.meta.dirname, 'test-issuer.ts');
const nastyFile = path.join(import.meta.dirname, 'nasty-provider.ts');
/** Text that the commands of policies have in their command lines. */
export const childWords = (role: string) => `leak/child.ts ${role}`;

type Policy = Readonly<Record<string, unknown>>;

/** What people hand in: the credentials that everything else is made with. */
export function firstPolicies(around: Around): void {
  const byHand = (item: string, field: string): Policy => ({
    provider: { use: 'operator', instructions: 'Make one.', fields: [field] },
    backend: `local://${item}`,
    schedule: 'manual',
    grace: '0s',
  });
  write(around, 'first', {
    admin: byHand('hand/admin', 'key'),
    'admin-exec': byHand('hand/admin-exec', 'key'),
    reload: byHand('hand/reload', 'value'),
  });
}

export function failingPolicies(around: Around): void {
  const { out, echoes } = around;
  const child = (role: string, name = '') => [process.execPath, childFile, role, around.side, name];
  const header = { Authorization: 'Bearer ${value}' };
  const generated = (name: string, more: Policy): Policy => ({
    provider: { use: 'generated', kind: 'random' },
    backend: `local://made/${name}`,
    schedule: 'manual',
    grace: '0s',
    notify: ['shouting', 'webhook'],
    failure: { attempts: 2, pauseAfter: 1 },
    adoption: { timeout: '1s', then: 'revoke' },
    ...more,
  });
  const command = (name: string, more: Policy = {}): Policy =>
    generated(name, {
      provider: {
        use: 'exec',
        admin: 'local://hand/admin-exec',
        command: child('provider'),
        crashClass: 'token',
        capabilities: { check: true },
        passEnv: ['LEAK_PASSED'],
      },
      failure: { attempts: 8, pauseAfter: 8 },
      ...more,
    });
  const secrets: Record<string, Policy> = {
    'exec-mint': command('exec-mint'),
    'exec-reason': command('exec-reason', { failure: { attempts: 5, pauseAfter: 1 } }),
    nasty: generated('nasty', {
      provider: { use: nastyFile, admin: 'local://hand/admin', side: around.side },
      failure: { attempts: 8, pauseAfter: 8 },
    }),
    'verify-exec': generated('verify-exec', {
      verify: { exec: { command: child('verify'), env: { LEAK_VERIFY: 'value' } } },
      failure: { attempts: 4, pauseAfter: 1 },
    }),
    'file-works': generated('file-works', {
      consumers: [
        { file: { path: path.join(out, 'works.json'), format: 'json' } },
        { exec: child('consumer'), report: { exec: child('report', 'known to the consumer') } },
      ],
    }),
    'file-env': generated('file-env', {
      consumers: [{ file: { path: path.join(out, 'works.env'), format: 'env' } }],
    }),
    'file-fails': generated('file-fails', {
      consumers: [{ file: { path: path.join(out, 'nowhere', 'fails.json'), format: 'json' } }],
    }),
    'file-blocked': generated('file-blocked', {
      consumers: [{ file: { path: path.join(out, 'blocked'), format: 'json' } }],
    }),
    'http-consumer': generated('http-consumer', {
      consumers: [
        {
          http: { url: `${echoes}/reload`, key: 'local://hand/reload#value' },
          report: { http: { url: `${echoes}/reload`, key: 'local://hand/reload#value' } },
        },
      ],
    }),
    'key-pair': generated('key-pair', {
      provider: { use: 'generated', kind: 'ed25519' },
      consumers: [{ file: { path: path.join(out, 'pair.json'), format: 'json' } }],
    }),
    debt: onIssuer(around, 'debt', 'listable'),
    'roll-back': generated('roll-back', { grace: '1h' }),
    abandon: generated('abandon', {
      verify: { http: { url: `${echoes}/error-abandon`, headers: header, timeout: '2s' } },
      failure: { attempts: 50, pauseAfter: 50 },
    }),
    restore: generated('restore', { escrow: true }),
    continuity: onIssuer(around, 'continuity', 'token'),
    contain: onIssuer(around, 'contain', 'listable'),
    person: generated('person', {
      provider: {
        use: 'operator',
        instructions: 'Make one.',
        verify: { url: `${echoes}/person`, headers: header },
      },
      failure: { attempts: 8, pauseAfter: 8 },
    }),
  };
  for (const way of ['error', 'redirect', 'refuse', 'cut']) {
    secrets[`verify-${way}`] = generated(`verify-${way}`, {
      verify: { http: { url: `${echoes}/${way}`, headers: header, timeout: '2s' } },
    });
  }
  for (const one of classes) secrets[`mint-${one}`] = onIssuer(around, `mint-${one}`, one);
  write(around, 'failing', secrets, {
    shouting: { exec: child('notify') },
    webhook: { http: { url: `${echoes}/hook` } },
  });
}

/** Each hangs in the middle of its rotation, so that the daemon can be killed there. */
export function crashPolicies(around: Around): void {
  const secrets: Record<string, Policy> = Object.fromEntries(
    classes.map((one) => [`crash-${one}`, onIssuer(around, `crash-${one}`, one)]),
  );
  secrets['crash-staged'] = {
    provider: { use: 'generated', kind: 'random' },
    backend: 'local://made/crash-staged',
    schedule: 'manual',
    verify: {
      http: {
        url: `${around.echoes}/hang`,
        headers: { Authorization: 'Bearer ${value}' },
        timeout: '10s',
      },
    },
    failure: { attempts: 50, pauseAfter: 50 },
  };
  write(around, 'crash', secrets);
}

function onIssuer({ issuer }: Around, principal: string, crashClass: string): Policy {
  return {
    provider: {
      use: issuerFile,
      admin: 'local://hand/admin',
      url: issuer,
      principal,
      crashClass,
      authenticate: true,
    },
    backend: `local://issued/${principal}`,
    schedule: 'manual',
    grace: '0s',
    failure: { attempts: 20, pauseAfter: 20 },
  };
}

function write(around: Around, name: string, secrets: object, notifiers: object = {}): void {
  mkdirSync(around.folder, { recursive: true, mode: 0o700 });
  // JSON is YAML.
  const text = JSON.stringify({ secrets, notifiers }, null, 2);
  writeFileSync(path.join(around.folder, `${name}.yaml`), text, { mode: 0o600 });
}
