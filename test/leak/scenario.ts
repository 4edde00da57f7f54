/** Drives the canaries through every failure path of the real programs, and says which of the paths were really taken. */
import { chmodSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { reachControl } from '../../src/control/client.ts';
import { controlSocketPath } from '../../src/control/socket-path.ts';
import { databaseName } from '../../src/state-place.ts';
import type { Fault, RunningIssuer } from '../support/issuer/server.ts';
import type { Canaries } from './canaries.ts';
import type { Echoes } from './echoes.ts';
import type { Evidence } from './evidence.ts';
import {
  type Around,
  childWords,
  classes,
  crashPolicies,
  failingPolicies,
  firstPolicies,
} from './policies.ts';
import type { ProcessWatch } from './processes.ts';
import { exchangeLines } from './socket.ts';
import {
  type Places,
  placesIn,
  type Rotate,
  rotateIn,
  type Service,
  startService,
  until,
  within,
} from './stage.ts';

export interface World {
  readonly folder: string;
  readonly canaries: Canaries;
  readonly evidence: Evidence;
  readonly watch: ProcessWatch;
  readonly issuer: RunningIssuer;
  readonly echoes: Echoes;
  progress(line: string): void;
  /** A path that was to be taken, and whether it was. */
  taken(path: string, isTaken: boolean): void;
}

interface Scene extends World {
  readonly places: Places;
  readonly around: Around;
  readonly rotate: Rotate;
}

const bin = path.resolve(import.meta.dirname, '../../bin');
const adminSource = 'the admin credential';

/** What the daemon's environment holds, and who else may have it. */
export const daemonOnly = 'LEAK_DAEMON';
export const passedOn = 'LEAK_PASSED';

export async function driveDeployment(world: World): Promise<void> {
  const places = placesIn(world.folder);
  const scene: Scene = {
    ...world,
    places,
    rotate: rotateIn(places, world.evidence),
    around: {
      folder: places.policies,
      out: places.out,
      side: places.side,
      issuer: world.issuer.url,
      echoes: world.echoes.url,
    },
  };
  await handIn(scene);
  await prepareIssuer(scene);
  failingPolicies(scene.around);
  // A directory cannot be replaced by a file.
  mkdirSync(path.join(places.out, 'blocked'));
  await failingPaths(scene);
  await crashPaths(scene);
  await alonePaths(scene);
  await usagePaths(scene);
  lookAtDestinations(scene);
}

/** By stdin, without a daemon. */
async function handIn({ around, canaries, echoes, places, rotate, taken }: Scene): Promise<void> {
  firstPolicies(around);
  const admin = canaries.make(adminSource);
  const reload = canaries.make('the key of the http consumer');
  echoes.know(reload);
  const given = [
    ['admin', 'key', admin],
    ['admin-exec', 'key', canaries.make('the admin credential of a command')],
    ['reload', 'value', reload],
  ] as const;
  for (const [secret, field, value] of given) {
    const { code } = await rotate(['supply', secret, '--field', field, '--json'], { input: value });
    taken(`supply of ${secret} on stdin`, code === 0);
  }
  const line = readFileSync(places.key, 'utf8').trim();
  canaries.learn('the key file', line.slice(line.indexOf(':') + 1));
  canaries.learn('the key', Buffer.from(line.slice(line.indexOf(':') + 1), 'base64'));
}

/** The issuer's values begin with a canary for each principal; its mints fail in every way first. */
async function prepareIssuer({ around, canaries, issuer }: Scene): Promise<void> {
  const adminKey = canaries.make(adminSource);
  const mint = (nth: number, fault: object) => ({ operation: 'mint', nth, ...fault }) as Fault;
  for (const one of classes) {
    const valuePrefix = canaries.make(`minted by the issuer, class ${one}`);
    await issuer.configure(`mint-${one}`, {
      crashClass: one,
      adminKey,
      valuePrefix,
      faults: [
        mint(1, { kind: 'error', status: 503 }),
        mint(2, { kind: 'lost' }),
        mint(3, { kind: 'garbage', body: JSON.stringify({ value: valuePrefix, ref: 5 }) }),
        mint(4, { kind: 'garbage', body: `<html>${valuePrefix}</html>` }),
        mint(5, { kind: 'error', status: 500, committed: true }),
      ],
    });
    await issuer.configure(`crash-${one}`, {
      crashClass: one,
      adminKey,
      valuePrefix: canaries.make(`minted before kill −9, class ${one}`),
      faults: [mint(1, { kind: 'hang', committed: true })],
    });
  }
  const others = { debt: 'listable', continuity: 'token', contain: 'listable' } as const;
  for (const [principal, crashClass] of Object.entries(others)) {
    const revoke: Fault = { operation: 'revoke', nth: 1, times: 1_000, kind: 'error', status: 500 };
    await issuer.configure(principal, {
      crashClass,
      adminKey,
      valuePrefix: canaries.make(`minted by the issuer for ${principal}`),
      faults: principal === 'debt' ? [revoke] : [],
    });
  }
  const sources = [
    'minted by the command of exec-mint',
    'minted by the command of exec-reason',
    'minted by the nasty provider',
    'known to the consumer',
  ];
  const values = Object.fromEntries(sources.map((source) => [source, canaries.make(source)]));
  writeFileSync(path.join(around.side, 'values.json'), JSON.stringify(values));
}

function startDaemon({ places, around, canaries, evidence }: Scene): Service {
  const sink = [process.execPath, path.join(import.meta.dirname, 'child.ts'), 'sink', around.side];
  const args = [
    '--json',
    '--listen',
    '127.0.0.1:0',
    '--log-level',
    'debug',
    '--audit-sink',
    `file:${path.join(places.temporary, 'audit.jsonl')}`,
    '--audit-sink',
    `exec:${JSON.stringify(sink)}`,
    ...places.args,
  ];
  const env = {
    ...places.env,
    [daemonOnly]: canaries.make("the daemon's environment"),
    [passedOn]: canaries.make('passed on to a command'),
  };
  const command = [process.execPath, path.join(bin, 'rotated.js'), ...args] as const;
  return startService('the log of the daemon', command, env, evidence);
}

async function failingPaths(scene: Scene): Promise<void> {
  const { canaries, echoes, evidence, issuer, places, progress, rotate, taken, watch } = scene;
  await using daemon = startDaemon(scene);
  await within('the daemon is ready', daemon.said('"ready"'));
  progress('leak: the daemon runs into every failure');
  const person = canaries.make('supplied by a person');
  const running = rotate(['run', '--all', '--wait', '20s', '--json']);
  await within('a check to abandon', echoes.until('/error-abandon', 1));
  const abandoned = await rotate(['abandon', 'abandon', '--reason', 'leak check', '--json']);
  taken('abandon', abandoned.code === 0 || abandoned.code === 4);
  // The running service parks at the mint and takes it from there.
  await rotate(['supply', 'person', '--wait', '15s', '--json'], { input: person });
  await running;
  evidence.folder('the state while the daemon runs', places.state);

  for (const one of classes) {
    const kinds = (await issuer.events(`mint-${one}`)).map((event) => event.kind);
    const expected = one === 'blind' ? ['error', 'lost'] : ['error', 'lost', 'garbage'];
    for (const kind of expected)
      taken(`mint ${kind}, class ${one}`, kinds.includes(`fault-${kind}`));
  }
  for (const way of ['error', 'redirect', 'refuse', 'cut', 'person', 'reload', 'hook'])
    taken(`server answers ${way}`, echoes.asked(`/${way}`) > 0);
  const noted = readFileSync(path.join(places.side, 'log'), 'utf8').split('\n');
  for (const role of ['verify', 'consumer', 'report', 'notify', 'sink', 'exec-mint mint'])
    taken(`command ${role} shouts and fails`, noted.includes(role));
  taken('reasons of a command', noted.filter((line) => line === 'exec-reason verify').length > 1);
  taken('processes of commands were seen', watch.seen(childWords('provider')) > 0);

  await commands(scene);
  await looks(scene, daemon);
  await learn(scene);
  evidence.folder('the state before the stop', places.state);
  await daemon.stop();
}

/** Everything people can ask for. */
async function commands({ canaries, rotate, taken }: Scene): Promise<void> {
  const reason = ['--reason', 'leak check', '--json'];
  const now = ['--yes', '--wait', '20s', ...reason];
  const outcomes = {
    'now, continuity': await rotate(['now', 'continuity', '--mode', 'continuity', ...now]),
    'now, contain': await rotate(['now', 'contain', '--mode', 'contain', ...now]),
    'a second generation to go back from': await rotate(['run', 'roll-back', '--wait', '0s']),
    rollback: await rotate(['rollback', 'roll-back', '--wait', '10s', ...reason]),
    'run into a debt': await rotate(['run', 'debt', '--wait', '3s', '--json']),
    pause: await rotate(['pause', 'key-pair', ...reason]),
    resume: await rotate(['resume', 'key-pair', ...reason]),
  };
  for (const [what, { code }] of Object.entries(outcomes))
    taken(what, code === (what === 'run into a debt' ? 5 : 0));
  // The value that is asked for may stand in the answer, and in nothing else.
  const read = await rotate(['read', 'contain', '--json'], {
    declared: ['minted by the issuer for contain'],
  });
  taken(
    'read on a pipe',
    read.out.includes(
      JSON.stringify(canaries.make('minted by the issuer for contain')).slice(1, -1),
    ),
  );
  const refused = await rotate(['read', 'nasty', '--field', 'nothing', '--json']);
  taken('read of a field that is not there', refused.code !== 0);
}

/** Every way of looking that changes nothing. */
async function looks(
  { canaries, evidence, places, rotate, taken }: Scene,
  daemon: Service,
): Promise<void> {
  const quiet = [
    ['status'],
    ['status', '--json'],
    ['history', '--json'],
    ['history', 'nasty'],
    ['plan', '--json'],
    ['audit', '--most', '5000'],
    ['audit', '--most', '5000', '--json'],
    ['audit', 'verify', '--json'],
    ['doctor', '--json'],
    ['doctor', '--verbose'],
  ];
  for (const args of quiet) await rotate(args);
  const status = await rotate(['status', '--json']);
  taken('a debt is left', JSON.stringify(JSON.parse(status.out)).includes('"lastError":"'));
  const health = /"health":"([^"]+)"/.exec(daemon.text())?.[1] ?? '';
  for (const page of ['metrics', 'healthz', 'readyz']) {
    const answer = await fetch(`http://${health.replace(/^http:\/\//, '')}/${page}`);
    evidence.text(`/${page}`, await answer.text());
    taken(`/${page}`, answer.status === 200 || page === 'readyz');
  }
  const selector = { names: [], tags: [], providers: [], consumers: [], all: true };
  const stray = canaries.make('a request that the daemon cannot read');
  const ask = { reason: null, as: null };
  const requests = [
    { method: 'status', params: { selector } },
    { method: 'history', params: { secret: null, most: 1_000 } },
    { method: 'audit', params: { secret: null, from: 0, most: 10_000 } },
    { method: 'plan', params: { selector, mode: 'contain' } },
    { method: 'auditVerify', params: {} },
    { method: 'supply', params: { secret: 'person', fields: { value: [stray] }, ask } },
    { method: 'supply', params: { secret: 'unknown', fields: { value: stray }, ask } },
    { method: stray, params: stray },
  ];
  const lines = requests.map((one, index) => JSON.stringify({ id: index + 1, ...one }));
  const answers = await exchangeLines(places.state, lines);
  evidence.text('the control socket', answers);
  taken('the control socket', answers.split('\n').length > requests.length);
  const cut = [JSON.stringify({ id: 1, method: 'status', params: {} }), `{"value":"${stray}`];
  evidence.text('the control socket, not JSON', await exchangeLines(places.state, cut));
}

/** What the machine made itself: read, and from then on searched for as well. */
async function learn({ canaries, echoes, places, taken }: Scene): Promise<void> {
  const reached = await reachControl(controlSocketPath(places.state));
  if (reached.kind !== 'connected') throw new Error(`The daemon is ${reached.kind}.`);
  const { service } = reached.client;
  const ask = {
    actor: { id: 'leak', channel: 'command', proven: true },
    reason: 'leak check',
  } as const;
  const selector = { names: [], tags: [], providers: [], consumers: [], all: true };
  let learned = 0;
  for (const { secret, provider } of (await service.status(selector)).secrets) {
    for (const stage of ['current', 'pending', 'previous'] as const) {
      // Most have no such version.
      const read = await service.read(secret, stage, ask).catch(() => null);
      for (const [name, value] of Object.entries(read?.fields ?? {})) {
        if (name.startsWith('public') || name === 'kid') continue;
        if (provider !== 'generated') continue;
        canaries.learn(`generated for ${secret}`, value.reveal());
        learned++;
      }
    }
  }
  reached.client.close();
  taken('generated values are known', learned > 5);
  const sent = echoes.sent();
  for (const [at, value] of sent) canaries.learn(`generated, then sent to ${at}`, value);
  taken('verifiers were sent values', sent.length > 4);
  const verified = readFileSync(path.join(places.side, 'verified'), 'utf8').split('\n');
  for (const value of verified)
    if (value !== '') canaries.learn('generated for verify-exec', value);
}

/** kill −9 with mints under way and a value staged; then a daemon with pretty logs and the key in its environment. */
async function crashPaths(scene: Scene): Promise<void> {
  const { around, canaries, echoes, evidence, issuer, places, progress, rotate, taken } = scene;
  progress('leak: kill −9 in the middle of five rotations, and a restart');
  {
    await using daemon = startDaemon(scene);
    await within('the daemon is ready', daemon.said('"ready"'));
    crashPolicies(around);
    const names = [...classes.map((one) => `crash-${one}`), 'crash-staged'];
    // Edits are picked up by the daemon; a command that comes before them is asked again.
    await until('the crash policies are in use', async () => {
      const { code } = await rotate(['run', ...names, '--wait', '0s']);
      return code === 0 || code === 6;
    });
    await within('a check hangs', echoes.until('/hang', 1));
    for (const one of classes) {
      await until(`a mint of class ${one} hangs`, async () =>
        (await issuer.events(`crash-${one}`)).some(({ kind }) => kind === 'fault-hang'),
      );
      taken(`kill −9 within a mint, class ${one}`, true);
    }
    taken('kill −9 with a value staged', true);
    evidence.folder('the state just before kill −9', places.state);
    progress('leak: kill −9');
    await daemon.kill();
  }
  evidence.folder('the state after kill −9', places.state);
  for (const [at, value] of echoes.sent()) canaries.learn(`generated, then sent to ${at}`, value);

  const words = [process.execPath, path.join(bin, 'rotated.js'), '--log-level', 'debug'];
  const inner = ['--state', places.state, '--policies', places.policies];
  const env = { ...places.env, ROTATED_KEY: readFileSync(places.key, 'utf8').trim() };
  const command = [...words, ...inner].map((word) => `'${word}'`).join(' ');
  // A terminal of its own: what is logged there is meant for people.
  const terminal = ['script', '-qefc', `exec ${command}`, '/dev/null'] as const;
  await using pretty = startService('the pretty log of the daemon', terminal, env, evidence);
  await within('the daemon is ready again', pretty.said('ready'));
  progress('leak: the daemon is back');
  await Promise.all(
    classes.map(async (one) => {
      const { code } = await rotate(['run', `crash-${one}`, '--wait', '25s', '--json']);
      taken(`after kill −9, class ${one}`, code === (one === 'blind' ? 6 : 0));
    }),
  );
  progress('leak: four rotations recovered');
  taken('the pretty log', pretty.text().includes('\u001B['));
  evidence.folder('the state after the restart', places.state);
  const status = await rotate(['abandon', 'crash-staged', '--json']);
  taken('abandon after kill −9', [0, 3, 4].includes(status.code ?? -1));
  process.kill(ownerOf(places), 'SIGTERM');
  await pretty.stop();
  progress('leak: and without a daemon');
}

export function ownerOf({ state }: Places): number {
  using database = new DatabaseSync(path.join(state, databaseName), { readOnly: true });
  return Number(database.prepare('SELECT pid FROM state').get()?.['pid']);
}

/** The command by itself, without a daemon. */
async function alonePaths({ canaries, evidence, places, rotate, taken }: Scene): Promise<void> {
  {
    using database = new DatabaseSync(path.join(places.state, databaseName));
    for (const table of ['local_version', 'local_item'])
      database.exec(`DELETE FROM ${table} WHERE item = 'made/restore'`);
  }
  const restored = await rotate(['restore', 'restore', '--reason', 'leak check', '--json']);
  taken('restore of a lost item', restored.code === 0);
  const verbose = await rotate([
    'run',
    'verify-error',
    'file-blocked',
    '--wait',
    '3s',
    '--verbose',
  ]);
  taken('run without a daemon', verbose.code !== null && verbose.code > 2);
  await rotate(['--check', '--reach', '--json'], { program: 'rotated' });
  await rotate(['--check', '--reach'], { program: 'rotated' });
  const again = canaries.make('supplied without a daemon');
  await rotate(['supply', 'person', '--wait', '3s'], { input: `${again}\n` });
  evidence.folder('the state in the end', places.state);
  evidence.folder('the temporary folder', places.temporary);
}

/** Where people put secrets by mistake: into policies, arguments, and the place of a key. */
async function usagePaths({ canaries, evidence, folder, places, taken }: Scene): Promise<void> {
  const wrong = placesIn(path.join(folder, 'wrong'));
  const rotate = rotateIn(wrong, evidence);
  mkdirSync(wrong.policies, { mode: 0o700 });
  const pasted = canaries.make('pasted into a policy');
  const base = { backend: 'local://a/b', schedule: 'manual' };
  const hook = `http://user:${encodeURIComponent(pasted)}@127.0.0.1/`;
  const mistakes = [
    { ...base, provider: { use: 'exec', admin: pasted, command: ['./x'], crashClass: 'token' } },
    { ...base, provider: 'generated', backend: pasted },
    { ...base, provider: 'generated', backend: `local://a/b#${pasted}` },
    { ...base, provider: 'generated', verify: { http: { url: hook } } },
    { ...base, provider: 'generated', consumers: [{ http: { url: hook, key: pasted } }] },
    { ...base, provider: { use: 'generated', kind: 'random', password: pasted } },
    { ...base, provider: { use: 'operator', instructions: 'x', value: pasted } },
    { ...base, provider: 'generated', token: pasted },
  ];
  for (const [index, mistake] of mistakes.entries()) {
    const text = JSON.stringify({ secrets: { [`wrong-${index}`]: mistake } }, null, 2);
    writeFileSync(path.join(wrong.policies, `${index}.yaml`), text, { mode: 0o600 });
  }
  const checked = await rotate(['--check', '--json'], { program: 'rotated' });
  await rotate(['--check'], { program: 'rotated' });
  taken('mistakes in policies', checked.code === 3);
  const badKey = canaries.make('a key file that is none');
  writeFileSync(wrong.key, `rotated-key-1:${badKey}\n`, { mode: 0o600 });
  const keyed = await rotate(['run', '--all', '--json']);
  taken('a key file that is none', keyed.code === 3);
  chmodSync(wrong.key, 0o644);
  await rotate(['status', '--verbose']);
  const typed = canaries.make('typed as an argument');
  const argued = rotateIn(places, evidence);
  for (const args of [
    ['supply', 'person', typed],
    ['supply', typed, '--json'],
    ['run', 'nasty', `--password=${typed}`],
    ['run', 'nasty', `--password=${typed}`, '--json'],
    ['supply', 'person', typed, '--json'],
  ]) {
    const { code } = await argued(args, { input: '' });
    taken('a secret among the arguments', code !== 0);
  }
}

/** The only places where a value may lie: named by a policy, for its owner alone. */
function lookAtDestinations({ evidence, places, taken }: Scene): void {
  const owners: Readonly<Record<string, string>> = {
    'works.json': 'file-works',
    'works.env': 'file-env',
    'pair.json': 'key-pair',
  };
  const written = readdirSync(places.out).filter((name) => name !== 'blocked');
  for (const name of written) {
    const mode = statSync(path.join(places.out, name)).mode & 0o777;
    taken(`${name} is a destination of a policy, mode 0600`, name in owners && mode === 0o600);
  }
  taken('the file consumers wrote', written.length === Object.keys(owners).length);
  const declared = Object.entries(owners).map(([name, secret]) => [
    name,
    [`generated for ${secret}`],
  ]);
  evidence.folder(
    'destinations',
    places.out,
    Object.fromEntries(declared) as Record<string, string[]>,
  );
}
