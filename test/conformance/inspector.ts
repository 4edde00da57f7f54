/** The inspector's command line as published: can it list tools and call one of whatever stands in a client's config? */
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** One entry of `mcpServers`. */
export type ConfigEntry =
  | {
      readonly command: string;
      readonly args: readonly string[];
      readonly env?: Readonly<Record<string, string>>;
    }
  | {
      readonly type: 'streamable-http';
      readonly url: string;
      readonly headers?: Readonly<Record<string, string>>;
    };

export interface Inspected {
  /** The first code that is not 0, of both calls. */
  readonly exit: number;
  /** What stood on its stderr, and what it answered, where something was wrong. */
  readonly problem: string | null;
}

const program = path.resolve(
  import.meta.dirname,
  '../../node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js',
);
const deadlineMs = 60_000;

export async function inspect(entry: ConfigEntry): Promise<Inspected> {
  // It keeps files in the home folder: in one of its own here.
  const home = await mkdtemp(path.join(tmpdir(), 'rotated-inspector-'));
  try {
    const config = path.join(home, 'mcp.json');
    await writeFile(config, JSON.stringify({ mcpServers: { fixture: entry } }));
    const common = ['--cli', '--config', config, '--server', 'fixture'];
    const listed = await run(home, [...common, '--method', 'tools/list']);
    if (listed.exit !== 0 || !listed.stdout.includes('test_simple_text')) return problem(listed);
    const call = ['--method', 'tools/call', '--tool-name', 'greet', '--tool-arg', 'name=World'];
    const called = await run(home, [...common, ...call]);
    return called.exit === 0 && called.stdout.includes('Hello, World!')
      ? { exit: 0, problem: null }
      : problem(called);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** An answer that is not the expected one counts as a failure, whatever the code says. */
function problem({ exit, stdout, stderr }: Ran): Inspected {
  return { exit: exit === 0 ? -1 : exit, problem: `${stdout}\n${stderr}`.slice(-2_000) };
}

async function run(home: string, args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: home, MCP_INSPECTOR_SECRET_STORE: 'memory' },
    timeout: deadlineMs,
  });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].on('data', (chunk: Buffer) => {
      output[name] += chunk.toString();
    });
  }
  const exit = await new Promise<number>((resolve) => {
    child.once('close', (code) => resolve(code ?? -1));
  });
  return { exit, ...output };
}
