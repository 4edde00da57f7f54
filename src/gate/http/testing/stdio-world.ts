/** A front with one server behind it that is a child process, for tests; can be started again with the same state. */
import { mkdtempSync, readFileSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { processLink } from '../../process-link.ts';
import type { ServerSettings } from '../../settings.ts';
import type { Front } from '../front.ts';
import type { LegacyTimes } from '../legacy.ts';
import type { ModernLimits } from '../modern.ts';
import { savedSessions } from '../saved-sessions.ts';
import { shareSource } from '../shared-source.ts';
import { createStdioBackend } from '../stdio-backend.ts';
import { frontFor, type TestAround, testAround } from './around.ts';
import { createTestSource, type TestSource } from './source.ts';

export const reference = 'local://mcp/stdio#key';

export interface StdioWorld extends AsyncDisposable {
  readonly around: TestAround;
  readonly source: TestSource;
  readonly url: () => string;
  readonly state: string;
  /** Resolves once the server has noted this, so often. */
  noted(text: string, count?: number): Promise<void>;
  notes(): readonly string[];
  /** Ends the gate, and starts it again on the same state. */
  restart(times?: LegacyTimes): Promise<void>;
}

export interface WorldOptions {
  readonly era: 'legacy' | 'modern' | 'both';
  readonly settings?: Partial<ServerSettings>;
  readonly times?: LegacyTimes;
  readonly limits?: ModernLimits;
}

export async function stdioWorld({
  era,
  settings,
  times,
  limits,
}: WorldOptions): Promise<StdioWorld> {
  const state = mkdtempSync(path.join(tmpdir(), 'rotated-front-'));
  const journal = path.join(state, 'journal');
  const around = testAround();
  const source = createTestSource(
    { [reference]: 'generation-one' },
    { warmMs: 0, startMs: 20_000, ...settings },
  );
  const read = () => {
    try {
      return readFileSync(journal, 'utf8').split('\n').slice(0, -1);
    } catch {
      return [];
    }
  };
  let front = await open(times);

  function open(given: LegacyTimes | undefined): Promise<Front> {
    const launch = {
      kind: 'process',
      command: process.execPath,
      args: [path.join(import.meta.dirname, 'stdio-server.ts')],
      cwd: state,
      env: { KEY: reference, JOURNAL: journal, ERA: era, PATH: process.env['PATH'] ?? '' },
      files: [],
    } as const;
    const parts = {
      ...around,
      entry: { name: 'stdio', launch },
      shared: shareSource(source, {}),
      startLink: processLink(launch, { eofMs: 1_000, termMs: 1_000 }),
    };
    const saved = savedSessions(path.join(state, 'sessions'), 'stdio');
    return frontFor(around, { stdio: createStdioBackend(parts, saved, { times: given, limits }) });
  }

  return {
    around,
    source,
    state,
    url: () => `${front.address}/stdio/mcp`,
    notes: read,
    noted: (text, count = 1) =>
      new Promise((resolve) => {
        const look = () => {
          if (read().filter((line) => line.endsWith(` ${text}`)).length < count) return;
          watcher.close();
          resolve();
        };
        const watcher = watch(state, look);
        look();
      }),
    async restart(given = times) {
      await front.close();
      front = await open(given);
    },
    async [Symbol.asyncDispose]() {
      await front.close();
      rmSync(state, { recursive: true, force: true });
    },
  };
}
