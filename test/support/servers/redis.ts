/** A real Redis of its own for a test: the installed `redis-server`, a temporary directory, a free port. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { createClient } from '@redis/client';
import { freePort, startAttempts } from './free-port.ts';
import { missingServer, programPath } from './required.ts';

export interface RedisServer extends AsyncDisposable {
  readonly host: '127.0.0.1';
  readonly port: number;
  /** Password of the default user, who may do everything. */
  readonly password: string;
  readonly version: string;
  /** `redis://…` as the default user. */
  url(): string;
  /** One command as the default user. */
  command(...parts: readonly string[]): Promise<unknown>;
  /** Ends the process and starts it again on the same port and directory. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface RedisStart {
  /** Where ACL changes can be saved; nowhere where absent. */
  readonly persist?: 'aclfile' | 'config';
}

/** null where it is installed; else the reason to skip by. */
export function missingRedis(): string | null {
  return missingServer('redis-server', 'apt-get install --no-install-recommends redis-server');
}

const password = 'default-user-of-a-test';

export async function startRedis({ persist }: RedisStart = {}): Promise<RedisServer> {
  const program = programPath('redis-server');
  if (program === null) throw new Error(`No Redis: ${missingRedis() ?? ''}`);
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-redis-'));
  let port = 0;
  let running: Running | null = null;
  try {
    for (let attempt = 1; running === null; attempt++) {
      port = await freePort();
      try {
        running = await start(program, folder, port, persist);
      } catch (error) {
        if (attempt === startAttempts) throw error;
      }
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
  let current = running;
  const command = async (...parts: readonly string[]): Promise<unknown> => {
    const client = createClient({
      password,
      RESP: 2,
      socket: { host: '127.0.0.1', port, reconnectStrategy: false },
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return await client.sendCommand([...parts]);
    } finally {
      client.destroy();
    }
  };
  const stop = async (): Promise<void> => {
    await end(current.child);
    await rm(folder, { recursive: true, force: true });
  };
  return {
    host: '127.0.0.1',
    port,
    password,
    version: current.version,
    url: () => `redis://:${password}@127.0.0.1:${port}`,
    command,
    async restart() {
      await end(current.child);
      current = await start(program, folder, port, persist);
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

interface Running {
  readonly child: ChildProcess;
  readonly version: string;
}

async function start(
  program: string,
  folder: string,
  port: number,
  persist: RedisStart['persist'],
): Promise<Running> {
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    `dir ${folder}`,
    'save ""',
    'appendonly no',
    ...(persist === 'aclfile' ? [`aclfile ${folder}/users.acl`] : [`requirepass ${password}`]),
  ];
  const config = path.join(folder, 'redis.conf');
  if (persist === 'aclfile') {
    // Kept over a restart: only the first start writes it.
    const first = `user default on >${password} ~* &* +@all\n`;
    await writeFile(path.join(folder, 'users.acl'), first, { flag: 'wx' }).catch(() => undefined);
  }
  if (persist === 'config') {
    await writeFile(config, `${lines.join('\n')}\n`, { flag: 'wx' }).catch(() => undefined);
    await chmod(config, 0o600);
  }
  // By stdin (`-`) the server has no configuration file to rewrite.
  const child = spawn(program, [persist === 'config' ? config : '-'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(persist === 'config' ? '' : `${lines.join('\n')}\n`);
  let version = 'unknown';
  const printed: string[] = [];
  const output = createInterface({ input: child.stdout });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) =>
      reject(new Error(`redis-server ended with ${String(code)}:\n${printed.join('\n')}`)),
    );
    output.on('line', (line) => {
      printed.push(line);
      version = /Redis version=([\d.]+)/.exec(line)?.[1] ?? version;
      if (line.includes('Ready to accept connections')) resolve();
    });
  });
  return { child, version };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
