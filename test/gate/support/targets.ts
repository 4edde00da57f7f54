/** What a client would be configured to run: a test server as it is, or behind one of the relays that are compared. */
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { logVariable } from '../load/server-log.ts';
import { openStdio, type StdioTransport } from '../load/transport.ts';
import { reference, type TestFeed } from './feed.ts';

export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
const root = here('../../..');

export const checkoutRotate = path.join(root, 'bin/rotate.js');

/** The binary itself: the launcher of `node_modules/.bin` would be one more process. */
const node = process.execPath;

export const servers = {
  everything: {
    command: node,
    args: [
      '--import',
      here('../servers/everything-preload.ts'),
      createRequire(import.meta.url).resolve(
        '@modelcontextprotocol/server-everything/dist/index.js',
      ),
    ],
  },
  modern: { command: node, args: [here('../servers/modern-stdio.ts')] },
  echo: { command: node, args: [here('../servers/echo.ts')] },
  bad: { command: node, args: [here('../servers/bad.ts')] },
} as const satisfies Record<string, Command>;

export type Relay = 'direct' | 'pipe' | 'wrap' | 'restart' | 'restart-buffered';

/** `rotate` as the checkout has it, unless a built one is named. */
export function behind(
  relay: Relay,
  { command, args }: Command,
  {
    name = 'test',
    rotate = checkoutRotate,
    nodeOptions = [],
  }: Pick<LaunchOptions, 'name' | 'rotate' | 'nodeOptions'> = {},
): Command {
  switch (relay) {
    case 'direct':
      return { command, args };
    case 'pipe':
      return { command: node, args: [here('../controls/pipe.ts'), command, ...args] };
    case 'restart':
      return { command: node, args: [here('../controls/restart.ts'), command, ...args] };
    case 'restart-buffered':
      return {
        command: node,
        args: [here('../controls/restart.ts'), '--buffer', command, ...args],
      };
    case 'wrap':
      return {
        command: node,
        args: [...nodeOptions, rotate, 'wrap', '--server', name, '--', command, ...args],
      };
    default:
      return relay satisfies never;
  }
}

export interface LaunchOptions {
  readonly relay: Relay;
  readonly server: Command;
  /** Where values come from; without one the server gets the key of generation 0. */
  readonly feed?: TestFeed;
  readonly log?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly name?: string;
  /** The program of a built package; the checkout's otherwise. */
  readonly rotate?: string;
  /** For `wrap` itself, not for its server. */
  readonly nodeOptions?: readonly string[];
}

/** As a client starts it: with an environment of its own making, a home and a path. */
export function launch(options: LaunchOptions): StdioTransport {
  const { relay, server, feed, log, env = {} } = options;
  const { command, args } = behind(relay, server, options);
  const isDirect = relay === 'direct' || relay === 'pipe';
  return openStdio(command, args, {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      ...(log === undefined ? {} : { [logVariable]: log }),
      ...(isDirect ? { API_KEY: 'key-g0' } : { API_KEY_REF: reference }),
      ...(feed === undefined ? {} : { ROTATED_GATE_SOCKET: feed.socket }),
      ...env,
    },
  });
}
