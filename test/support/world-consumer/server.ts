/** Starts the process of test applications and talks to it from a test. */
import { Agent } from 'node:http';
import { startProgram } from '../program.ts';
import { askJson } from '../issuer/call.ts';
import type { AppSettings, Serving } from './app.ts';

export type { AppSettings, Serving } from './app.ts';

/** Usable from any process that knows the URL. */
export interface AppControl {
  readonly url: string;
  /** Starts the app `name` anew: its instances load what the file says now. */
  configure(name: string, settings: AppSettings): Promise<void>;
  forget(name: string): Promise<void>;
  /** For the policy: where it reloads and reports. */
  address(name: string): string;
  serving(name: string): Promise<readonly Serving[]>;
  use(name: string): Promise<readonly { readonly instance: string; readonly status: number }[]>;
}

export interface RunningApps extends AppControl, AsyncDisposable {}

export async function startApps(): Promise<RunningApps> {
  const program = await startProgram(new URL('process.ts', import.meta.url), []);
  return {
    ...appControl(`http://127.0.0.1:${program.port}`),
    [Symbol.asyncDispose]: () => program.end(),
  };
}

/** Keeps connections: make one for each process of apps, not one for each question. */
export function appControl(url: string): AppControl {
  const agent = new Agent({ keepAlive: true });
  const at = (verb: string, name: string) => `${url}/${verb}/${encodeURIComponent(name)}`;
  const post = (path: string, body: object) =>
    askJson<unknown>({ method: 'POST', url: path, body: JSON.stringify(body), agent });
  return {
    url,
    configure: async (name, settings) => {
      await post(at('configure', name), settings);
    },
    forget: async (name) => {
      await post(at('forget', name), {});
    },
    address: (name) => at('app', name),
    serving: async (name) =>
      (
        await askJson<{ instances: readonly Serving[] }>({
          method: 'GET',
          url: at('serving', name),
          agent,
        })
      ).instances,
    use: async (name) =>
      ((await post(at('use', name), {})) as { uses: { instance: string; status: number }[] }).uses,
  };
}
