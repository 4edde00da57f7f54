/** The stage of session tests: a folder, clients that end with their test, and what the fixture has left behind. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ValueFile } from '../entry.ts';
import { type Said, TestClient, TestSource } from './harness.ts';

type Settings = ConstructorParameters<typeof TestSource>[0];

export class SessionStage {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'session-'));
  readonly #clients: TestClient[] = [];

  open(
    settings: Settings = {},
    env: Record<string, string> = {},
    files: readonly ValueFile[] = [],
    mode = '',
  ): TestClient {
    const source = new TestSource({ redact: false, ...settings });
    source.mode = mode;
    const log = { LOG: path.join(this.folder, 'log') };
    const client = new TestClient(source, { ...log, ...env }, files);
    this.#clients.push(client);
    return client;
  }

  async legacy(settings: Settings = {}, env: Record<string, string> = {}): Promise<TestClient> {
    const client = this.open(settings, env);
    await client.initialize();
    return client;
  }

  async modern(settings: Settings = {}): Promise<TestClient> {
    const client = this.open(settings, { ERA: 'modern' });
    await client.request('server/discover', { _meta: modernMeta });
    return client;
  }

  /** Lets go of a call that waits for this: `{ until: stage.gate }`. */
  letGo(): void {
    writeFileSync(this.gate, '');
  }

  get gate(): string {
    return path.join(this.folder, 'go');
  }

  /** The calls that arrived at the server, in order. */
  logged(): readonly string[] {
    return readFileSync(path.join(this.folder, 'log'), 'utf8').trim().split('\n');
  }

  async end(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What each request of a modern client carries. */
export const modernMeta = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
};

export function saidBy(client: TestClient, method: string): readonly Said[] {
  return client.said.filter((one) => one.method === method);
}

/** Processes of the fixture that still run below this one. */
export function fixtures(): readonly number[] {
  return readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter((text) => text !== '')
    .map(Number)
    .filter(isFixture);
}

function isFixture(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('server.mjs');
  } catch {
    return false;
  }
}
