/** What stands in for the public Node image where it cannot be pulled: Debian by mmdebstrap, the Node and npm of this run. */
import { createHash } from 'node:crypto';
import { mkdir, readFile, realpath, rm } from 'node:fs/promises';
import path from 'node:path';
import { execa } from 'execa';
import type { Engine } from './engine.ts';

/** As in the Dockerfile's FROM: a short name, which resolves to this one. */
const name = 'docker.io/library/node:24-bookworm-slim';
const suite = 'bookworm';
const timeoutMs = 10 * 60_000;

/** Makes the image unless the storage holds it, made from the same Node. About 25 s the first time. */
export async function ensureBaseImage(
  engine: Engine,
  scratch: string,
  progress: (line: string) => void,
): Promise<string> {
  const npm = await npmFolder();
  const tag = `localhost/rotated-base:${await stamp(npm)}`;
  if (!(await engine.has(tag))) {
    progress('base: making a Debian with Node (once; cached afterwards)');
    await make(engine, tag, npm, scratch);
  }
  await engine.run(['tag', tag, name]);
  return tag;
}

async function make(engine: Engine, tag: string, npm: string, scratch: string): Promise<void> {
  await mkdir(scratch, { recursive: true });
  const tar = path.join(scratch, 'base.tar');
  await execa('mmdebstrap', ['--variant=minbase', '--include=ca-certificates', suite, tar], {
    stdin: 'ignore',
    timeout: timeoutMs,
  });
  const container = await engine.run(['from', 'scratch']);
  try {
    await engine.run(['add', container, tar, '/']);
    await engine.run(['copy', container, process.execPath, '/usr/local/bin/node']);
    await engine.run(['copy', container, npm, '/usr/local/lib/node_modules/npm']);
    for (const program of ['npm', 'npx']) {
      const target = `../lib/node_modules/npm/bin/${program}-cli.js`;
      const link = ['--', 'ln', '-s', target, `/usr/local/bin/${program}`];
      await engine.run(['run', '--isolation', 'chroot', container, ...link]);
    }
    await engine.run(['commit', '--quiet', '--format', 'docker', container, tag]);
  } finally {
    await engine.run(['rm', container]);
    await rm(tar, { force: true });
  }
}

/** Another Node, npm or Debian is another base image. */
async function stamp(npm: string): Promise<string> {
  const { version } = JSON.parse(await readFile(path.join(npm, 'package.json'), 'utf8')) as {
    version: string;
  };
  const made = `${suite} node ${process.version} npm ${version} recipe 1`;
  return createHash('sha256').update(made).digest('hex').slice(0, 12);
}

/** The npm that runs this, or the first one on the path: its program stands in `npm/bin/`. */
async function npmFolder(): Promise<string> {
  const running = process.env['npm_execpath'];
  const found = running ?? (await execa('which', ['npm'], { stdin: 'ignore' })).stdout.trim();
  return path.dirname(path.dirname(await realpath(found)));
}
