/** `npm run -s image`: builds the container image and starts it, without a container engine; looks at the systemd unit too. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { type CheckContext, runCheck } from '../support/check.ts';
import { ensureBaseImage } from './base.ts';
import { type Container, startContainer } from './container.ts';
import { buildah, type Engine, type ImageConfig } from './engine.ts';
import { checkUnit, exposureMax, type UnitResult } from './unit.ts';

interface ImageResult {
  readonly built: boolean;
  /** The uid that the image declares. */
  readonly user: number | null;
  /** Neither its own user nor root could write outside the volumes and /tmp. */
  readonly readOnlyRoot: boolean;
  /** Healthy by its own health check, made a first credential, stopped by SIGTERM with exit code 0. */
  readonly started: boolean;
  readonly sizeMb: number | null;
  readonly problems: readonly string[];
  readonly unit: UnitResult | null;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const healthyWithinMs = 30_000;
const stopWithinMs = 20_000;

const policy = `secrets:
  image-check:
    provider: { use: generated, kind: random, length: 32 }
    backend: local://image/check
    schedule: manual
    grace: 0s
`;

await runCheck<ImageResult>({
  name: 'image',
  run: async (context) => {
    const problems: string[] = [];
    const unit = await unitResult(context, problems);
    const missing = await whatIsMissing();
    const built = missing === null ? await image(context, problems) : null;
    if (missing !== null) {
      context.skip('image', missing);
      if (process.env['REQUIRE_SERVERS'] === 'all') problems.push(missing);
    }
    const nothing = { built: false, user: null, readOnlyRoot: false, started: false, sizeMb: null };
    return { ok: problems.length === 0, ...(built ?? nothing), problems, unit };
  },
  text: ({ ok, built, user, readOnlyRoot, started, sizeMb, problems, unit }) =>
    [
      `image: ${ok ? 'ok' : 'FAILED'}; built ${built}, user ${user}, read-only root ${readOnlyRoot}, started ${started}, ${sizeMb} MB`,
      `unit: verified ${unit?.verified}, exposure ${unit?.exposure} of 10`,
      ...problems.map((problem) => `  ${problem}`),
    ].join('\n'),
});

async function whatIsMissing(): Promise<string | null> {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root: it mounts and changes its root folder';
  for (const program of ['buildah', 'mmdebstrap', 'unshare', 'nsenter', 'ip', 'npm']) {
    const found = await execa('which', [program], { reject: false });
    if (found.exitCode !== 0) return `${program} is not installed`;
  }
  return null;
}

async function unitResult(context: CheckContext, problems: string[]): Promise<UnitResult | null> {
  const found = await execa('which', ['systemd-analyze'], { reject: false });
  if (found.exitCode !== 0) {
    context.skip('unit', 'systemd-analyze is not installed');
    return null;
  }
  const unit = await checkUnit(path.join(root, 'deploy/rotated.service'));
  context.progress(`unit: verified ${unit.verified}, exposure ${unit.exposure} of 10`);
  if (!unit.verified) problems.push(`systemd-analyze verify: ${unit.complaints.join('; ')}`);
  if (unit.exposure === null || unit.exposure > exposureMax) {
    problems.push(`the unit's exposure is ${unit.exposure}, more than ${exposureMax}`);
  }
  return unit;
}

async function image(context: CheckContext, problems: string[]) {
  const cache = process.env['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache');
  const storage = path.join(cache, 'rotated-test', 'image');
  await mkdir(storage, { recursive: true });
  const engine = buildah(storage, context.progress);
  const tag = `localhost/rotated:check-${process.pid}`;
  await ensureBaseImage(engine, path.join(storage, 'scratch'), context.progress);
  context.progress('building the Dockerfile');
  const began = performance.now();
  await build(engine, tag);
  const container = await engine.run(['from', '--pull-never', tag]);
  try {
    const config = await engine.config(tag);
    const mounted = await engine.run(['mount', container]);
    const size = await execa('du', ['-s', '--block-size=1M', mounted]);
    const sizeMb = Number.parseInt(size.stdout, 10);
    const took = Math.round((performance.now() - began) / 1_000);
    context.progress(`built in ${took} s, ${sizeMb} MB; starting it as ${config.user}`);
    const uid = Number(/^(\d+)(?::\d+)?$/.exec(config.user)?.[1] ?? Number.NaN);
    if (!(uid > 0)) problems.push(`the image's user is "${config.user}", not a number above 0`);
    const ran = await tryOut(mounted, config, uid, context, problems);
    return { built: true, user: uid, sizeMb, ...ran };
  } finally {
    await engine.run(['umount', container]);
    await engine.run(['rm', container]);
    await engine.run(['rmi', tag]);
  }
}

/** Builds as a company with a certificate authority of its own would where this machine has one. */
async function build(engine: Engine, tag: string): Promise<void> {
  const authority = process.env['NODE_EXTRA_CA_CERTS'];
  const inside = '/run/secrets/ca';
  const ca =
    authority === undefined
      ? []
      : [
          `--secret=id=ca,src=${authority}`,
          `--build-arg=NODE_EXTRA_CA_CERTS=${inside}`,
          `--build-arg=NPM_CONFIG_CAFILE=${inside}`,
        ];
  // The format with health checks; OCI's own has none.
  const how = ['--pull-never', '--isolation', 'chroot', '--format', 'docker'];
  await engine.run(['bud', ...how, ...ca, '--tag', tag, root]);
}

async function tryOut(
  mounted: string,
  config: ImageConfig,
  uid: number,
  context: CheckContext,
  problems: string[],
): Promise<{ readOnlyRoot: boolean; started: boolean }> {
  const schedules = await mkdtemp(path.join(tmpdir(), 'rotated-image-'));
  try {
    await writeFile(path.join(schedules, 'check.yaml'), policy, { mode: 0o644 });
    await execa('chmod', ['755', schedules]);
    const folders = { '/etc/rotated/schedules': schedules };
    const common = { root: mounted, uid, folders };
    const idle = { ...config, entrypoint: ['sleep'], command: ['60'] };
    await using control = await startContainer({ ...common, config: idle });
    if (await healthy(control, config, uid, 0)) {
      problems.push('the health check passes where no daemon runs');
    }
    await control[Symbol.asyncDispose]();
    await using daemon = await startContainer({ ...common, config });
    const started = await startedWell(daemon, config, uid, problems);
    const readOnlyRoot = await isReadOnly(daemon, config, uid, problems);
    const code = await daemon.stop(stopWithinMs);
    if (code !== 0) problems.push(`SIGTERM ended the daemon with ${code ?? 'no exit code'}`);
    if (problems.length > 0) context.progress(daemon.output().slice(-4_000));
    return { started: started && code === 0, readOnlyRoot };
  } finally {
    await rm(schedules, { recursive: true, force: true });
  }
}

async function startedWell(
  daemon: Container,
  config: ImageConfig,
  uid: number,
  problems: string[],
): Promise<boolean> {
  if (!(await healthy(daemon, config, uid, healthyWithinMs))) {
    problems.push('the image did not become healthy by its own health check');
    return false;
  }
  const run = await daemon.exec(uid, ['rotate', 'run', 'image-check', '--json']);
  if (run.exitCode === 0) return true;
  problems.push(`rotate run in the image ended with ${run.exitCode}: ${run.output.slice(-500)}`);
  return false;
}

async function healthy(
  container: Container,
  config: ImageConfig,
  uid: number,
  withinMs: number,
): Promise<boolean> {
  const check = config.healthCheck;
  if (check === null) return false;
  const until = Date.now() + withinMs;
  for (;;) {
    const { exitCode } = await container.exec(uid, check);
    if (exitCode === 0) return true;
    if (Date.now() >= until) return false;
    await delay(250);
  }
}

/** Also root may not write: a defect that gives its rights must not plant a program. */
async function isReadOnly(
  container: Container,
  config: ImageConfig,
  uid: number,
  problems: string[],
): Promise<boolean> {
  let readOnly = true;
  for (const as of [uid, 0]) {
    for (const folder of ['/', '/app', '/etc/rotated/schedules', '/usr/local/bin']) {
      const { exitCode } = await container.exec(as, ['touch', path.join(folder, 'planted')]);
      if (exitCode !== 0) continue;
      readOnly = false;
      problems.push(`uid ${as} could write in ${folder}`);
    }
  }
  for (const folder of [...config.volumes, '/tmp']) {
    const { exitCode } = await container.exec(uid, ['touch', path.join(folder, 'probe')]);
    if (exitCode !== 0) problems.push(`the image's user cannot write in ${folder}`);
  }
  return readOnly;
}
