/** The least a relay can be: bytes from one pipe to the other, nothing looked at. `node pipe.ts COMMAND ARGS…` */
import { spawn } from 'node:child_process';

const [command, ...args] = process.argv.slice(2);
if (command === undefined) throw new Error('Say what is to be run.');
const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
process.stdin.pipe(child.stdin);
child.stdout.pipe(process.stdout);
child.on('close', (code) => {
  process.exitCode = code ?? 1;
});
