/** A person at a terminal with a home of their own: command lines as they would type them, and all that was ever said to them. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { needlesOf } from '../../../test/leak/canaries.ts';
import { systemClock, systemRandom } from '../../clock.ts';
import type { Io, ProgramName } from '../io.ts';
import { main } from '../main.ts';

export interface Terminal {
  readonly program?: ProgramName;
  /** Somebody is there to answer. */
  readonly in?: boolean;
  readonly typed?: readonly string[];
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  json(): Record<string, unknown>;
}

export interface Person {
  readonly home: string;
  rotate(args: readonly string[], terminal?: Terminal): Promise<Said>;
  /** What was said so far may hold values that were asked for. */
  forget(): void;
  /** Where any twelve characters of a value stand, in any encoding: `said`, or files below home. */
  leaksOf(values: readonly string[]): readonly string[];
  gone(): void;
}

export function person(name: string): Person {
  const home = realpathSync(mkdtempSync(path.join(tmpdir(), `${name}-`)));
  mkdirSync(path.join(home, 'bin'));
  writeFileSync(path.join(home, 'bin', 'npx'), '#!/bin/sh\n', { mode: 0o755 });
  let everything = '';
  return {
    home,
    async rotate(args, terminal = {}) {
      let out = '';
      let err = '';
      const typed = [...(terminal.typed ?? [])];
      const io: Io = {
        program: terminal.program ?? 'rotate',
        out: (text) => {
          out += text;
        },
        err: (text) => {
          err += text;
        },
        outIsTerminal: false,
        errIsTerminal: false,
        inIsTerminal: terminal.in === true,
        columns: 80,
        env: { HOME: home, USER: 'anna', PATH: path.join(home, 'bin'), ...terminal.env },
        directory: home,
        clock: systemClock(),
        random: systemRandom(),
        readIn: async () => terminal.stdin ?? '',
        ask: async (question) => {
          err += question;
          return typed.shift() ?? null;
        },
        signal: new AbortController().signal,
      };
      const code = await main(args, io);
      everything += out + err;
      return { code, out, err, json: () => JSON.parse(out) as Record<string, unknown> };
    },
    forget() {
      everything = '';
    },
    leaksOf(values) {
      const needles = values.flatMap((value) =>
        needlesOf({ source: value, bytes: Buffer.from(value) }),
      );
      const files = readdirSync(home, { recursive: true, withFileTypes: true })
        .filter((one) => one.isFile())
        .map((one) => path.join(one.parentPath, one.name));
      const places = [
        { place: 'said', bytes: Buffer.from(everything) },
        ...files.map((file) => ({
          place: path.relative(home, file),
          bytes: readFileSync(file),
        })),
      ];
      return places
        .filter(({ bytes }) => needles.some((needle) => bytes.includes(needle.bytes)))
        .map(({ place }) => place);
    },
    gone: () => rmSync(home, { recursive: true, force: true }),
  };
}
