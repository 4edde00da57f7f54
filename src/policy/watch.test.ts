/** Edits of policy files are noticed, however the editor writes, and on disks that send no events. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import { watchPolicies, type WatchOptions } from './watch.ts';

let folder: string;
let stop: AbortController;
let watching: Promise<void>;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'rotated-watch-'));
  stop = new AbortController();
  watching = Promise.resolve();
  writeFileSync(path.join(folder, 'a.yaml'), 'a: 1');
});
afterEach(async () => {
  stop.abort();
  await watching.catch(() => undefined);
  rmSync(folder, { recursive: true, force: true });
  rmSync(`${folder}-old`, { recursive: true, force: true });
});

/** Resolves at the next call of onChange; counts them. */
function start(options: Partial<WatchOptions> = {}, target = folder) {
  let told = Promise.withResolvers<void>();
  const seen = { count: 0, next: () => told.promise };
  watching = watchPolicies(
    target,
    () => {
      seen.count++;
      const before = told;
      told = Promise.withResolvers<void>();
      before.resolve();
    },
    { clock: systemClock(), signal: stop.signal, quietMs: 20, pollMs: 60_000, ...options },
  );
  return seen;
}

test('an edit, a new file, a removed file and changed rights are each told', async () => {
  const seen = start();
  for (const edit of [
    // Of another length: two writes within one tick of a file system's clock have the same instant.
    () => writeFileSync(path.join(folder, 'a.yaml'), 'a: 22'),
    () => writeFileSync(path.join(folder, 'b.yaml'), 'b: 1'),
    () => unlinkSync(path.join(folder, 'b.yaml')),
    () => chmodSync(path.join(folder, 'a.yaml'), 0o666),
  ]) {
    const next = seen.next();
    edit();
    await next;
  }
  expect(seen.count).toBe(4);
});

test('a file that an editor writes beside and renames over is told', async () => {
  const seen = start({}, path.join(folder, 'a.yaml'));
  const next = seen.next();
  writeFileSync(path.join(folder, '.a.yaml.swp'), 'a: 2');
  renameSync(path.join(folder, '.a.yaml.swp'), path.join(folder, 'a.yaml'));
  await next;
  const again = seen.next();
  writeFileSync(path.join(folder, 'a.yaml'), 'a: 3');
  await again;
});

test('many writes in a row are told once', async () => {
  const seen = start({ quietMs: 100 });
  const next = seen.next();
  for (let index = 0; index < 20; index++)
    writeFileSync(path.join(folder, 'a.yaml'), `a: ${'x'.repeat(index)}`);
  await next;
  expect(seen.count).toBe(1);
});

test('a folder that was replaced is watched again', async () => {
  const seen = start();
  const next = seen.next();
  renameSync(folder, `${folder}-old`);
  mkdirSync(folder);
  writeFileSync(path.join(folder, 'a.yaml'), 'a: new');
  await next;
  const again = seen.next();
  writeFileSync(path.join(folder, 'a.yaml'), 'a: newer');
  await again;
});

test('without events an edit is found by looking', async () => {
  // A link's target sends no event to the folder that holds the link.
  const inner = path.join(folder, '..data');
  mkdirSync(inner);
  writeFileSync(path.join(inner, 'b.yaml'), 'b: 1');
  symlinkSync(path.join('..data', 'b.yaml'), path.join(folder, 'b.yaml'));
  const seen = start({ pollMs: 20 });
  const next = seen.next();
  writeFileSync(path.join(inner, 'b.yaml'), 'b: 22');
  await next;
});

test('an edit during a call leads to another call', async () => {
  const gate = Promise.withResolvers<void>();
  const first = Promise.withResolvers<void>();
  const second = Promise.withResolvers<void>();
  let count = 0;
  watching = watchPolicies(
    folder,
    async () => {
      count++;
      if (count === 1) {
        first.resolve();
        await gate.promise;
      } else {
        second.resolve();
      }
    },
    { clock: systemClock(), signal: stop.signal, quietMs: 5, pollMs: 60_000 },
  );
  writeFileSync(path.join(folder, 'a.yaml'), 'a: 22');
  await first.promise;
  writeFileSync(path.join(folder, 'a.yaml'), 'a: 333');
  gate.resolve();
  await second.promise;
});

test('the signal ends it, also while nothing happens', async () => {
  start();
  stop.abort();
  await watching;
});

test('other files of the folder are nobody’s business', async () => {
  const seen = start();
  writeFileSync(path.join(folder, 'notes.txt'), 'x');
  const next = seen.next();
  writeFileSync(path.join(folder, 'a.yaml'), 'a: 22');
  await next;
  expect(seen.count).toBe(1);
});
