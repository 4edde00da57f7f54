/** One application of the test world: instances that read a rendered file, adopt it when told to be slow, and use its key. */
import { readFile } from 'node:fs/promises';
import { createReloadHandler, type ReloadHandler } from '../../../src/consumer/receiver.ts';
import type { InstanceState } from '../../../src/consumer/consumer.ts';
import { exchange } from '../issuer/call.ts';
import type { IssuerControl } from '../issuer/server.ts';
import { hashOf } from '../issuer/store.ts';

export interface AppSettings {
  /** What the file consumer renders, as JSON. */
  readonly file: string;
  /** The HMAC key of the report protocol. */
  readonly key: string;
  readonly issuer: string;
  readonly principal: string;
  /** A verifier checks what others present: it serves every value it accepts, and asks the issuer nothing. */
  readonly role: 'user' | 'verifier';
  readonly instances: readonly string[];
  /** Reports that an instance goes on serving the old generation for, after a new one is there. */
  readonly lagReports: number;
  /** Generations that no instance ever takes. */
  readonly refuses: readonly number[];
  /** What an instance says it is, where not `serving`; one `gone` serves nothing. */
  readonly states: Readonly<Record<string, InstanceState>>;
}

/** What one instance serves, and whether the issuer would accept it at this instant. */
export interface Serving {
  readonly instance: string;
  readonly generation: number | null;
  /** SHA-256, hex, of the value it uses, or of each that it accepts as a verifier; empty where it has none. */
  readonly hashes: readonly string[];
  /** null where it has none, and for a verifier. */
  readonly accepted: boolean | null;
}

interface Loaded {
  readonly generation: number;
  /** Newest last; one for a user. */
  readonly values: readonly string[];
}

interface Instance {
  loaded: Loaded | null;
  lagLeft: number | null;
}

export interface App {
  readonly handler: ReloadHandler;
  /** Every live instance, probed without using the key. */
  serving(): Promise<readonly Serving[]>;
  /** Every live instance uses its key once: the issuer's status, 0 where it has none. */
  use(): Promise<readonly { readonly instance: string; readonly status: number }[]>;
}

export async function createApp(settings: AppSettings, control: IssuerControl): Promise<App> {
  const instances = new Map<string, Instance>(
    settings.instances.map((id) => [id, { loaded: null, lagLeft: null }]),
  );
  const live = () => [...instances].filter(([id]) => (settings.states[id] ?? 'serving') !== 'gone');

  /** `asked`: a report is due, which counts against the lag. */
  async function load(asked: boolean): Promise<void> {
    const newest = await readRendered(settings.file);
    if (newest === null || settings.refuses.includes(newest.generation)) return;
    for (const instance of instances.values()) {
      // What a verifier accepts changes within a generation as well: the old one goes.
      if (instance.loaded?.generation === newest.generation) {
        instance.loaded = newest;
        continue;
      }
      instance.lagLeft ??= instance.loaded === null ? 0 : settings.lagReports;
      if (instance.lagLeft === 0) {
        instance.loaded = newest;
        instance.lagLeft = null;
      } else if (asked) instance.lagLeft -= 1;
    }
  }

  await load(false);
  return {
    handler: createReloadHandler({
      key: settings.key,
      onReload: () => load(false),
      report: async () => {
        await load(true);
        return [...instances].map(([id, { loaded }]) => ({
          id,
          generation: loaded?.generation ?? null,
          state: settings.states[id] ?? 'serving',
        }));
      },
    }),
    serving: async () =>
      Promise.all(
        live().map(async ([instance, { loaded }]) => {
          if (loaded === null) return { instance, generation: null, hashes: [], accepted: null };
          const { generation, values } = loaded;
          const hashes = values.map(hashOf);
          if (settings.role === 'verifier') return { instance, generation, hashes, accepted: null };
          const key = await control.probe(settings.principal, values.at(-1) ?? '');
          return { instance, generation, hashes, accepted: key?.accepted ?? false };
        }),
      ),
    use: async () =>
      Promise.all(
        live().map(async ([instance, { loaded }]) => {
          if (loaded === null) return { instance, status: 0 };
          const url = `${settings.issuer}/p/${encodeURIComponent(settings.principal)}/use`;
          const headers = { authorization: `Bearer ${loaded.values.at(-1)}` };
          const { status } = await exchange({ method: 'GET', url, headers });
          return { instance, status };
        }),
      ),
  };
}

async function readRendered(file: string): Promise<Loaded | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const { generation, fields, accepted } = JSON.parse(text) as {
    generation: number;
    fields?: Readonly<Record<string, string>>;
    accepted?: readonly { readonly fields: Readonly<Record<string, string>> }[];
  };
  const all = accepted?.map((one) => one.fields) ?? [fields ?? {}];
  return { generation, values: all.map((one) => one['value'] ?? '') };
}
