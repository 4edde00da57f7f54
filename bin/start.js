// The one file that any Node can read: it refuses an old one with a clear message, and finds the program beside it.
// Plain JavaScript of Node 12: nothing newer before the version is known.
import { existsSync } from 'fs';
import { fileURLToPath, pathToFileURL } from 'url';

/** Held equal to `engines` in package.json by a test. */
export const oldestNode = [24, 15];

function isTooOld(version) {
  const parts = version.split('.').map(Number);
  return parts[0] < oldestNode[0] || (parts[0] === oldestNode[0] && parts[1] < oldestNode[1]);
}

/** Runs the command line under the name it was called by. */
export function start(program) {
  if (isTooOld(process.versions.node)) {
    process.stderr.write(
      program +
        ': this is Node ' +
        process.versions.node +
        ', and Node ' +
        oldestNode.join('.') +
        ' or newer is needed (node-too-old).\n' +
        'Next: install it from https://nodejs.org, or name one: /path/to/node ' +
        process.argv[1] +
        '\n',
    );
    process.exitCode = 1;
    return;
  }
  // A listener keeps Node from opening the inspector at this signal, which would let anyone of this account read every value.
  process.on('SIGUSR1', function ignore() {});
  // Each server of a client waits for its shim, so that one loads nothing but itself.
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  const isWrap = args[0] === 'wrap' && end !== -1 && !args.slice(0, end).includes('--help');
  const isRemote = args[0] === 'wrap' && args.includes('--url') && !args.includes('--help');
  if (isWrap || isRemote) {
    void load('wrap').then(function run(module) {
      return module.runWrap(args.slice(1));
    });
    return;
  }
  void load('main').then(function run(module) {
    return module.runProcess(program);
  });
}

/** A checkout runs its sources, a published package what was built from them. */
function load(name) {
  const source = fileURLToPath(new URL('../src/cli/' + name + '.ts', import.meta.url));
  const built = fileURLToPath(new URL('../dist/src/cli/' + name + '.js', import.meta.url));
  return import(pathToFileURL(existsSync(source) ? source : built).href);
}
