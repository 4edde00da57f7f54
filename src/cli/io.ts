/** What a command may touch of its process: streams, terminal, environment. Tests hand over their own. */
import type { Clock, Random } from '../clock.ts';

export type ProgramName = 'rotate' | 'rotated';

export interface Io {
  readonly program: ProgramName;
  /** What was asked for, and nothing else. */
  out(text: string): void;
  /** Progress, questions, warnings, errors. */
  err(text: string): void;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  readonly inIsTerminal: boolean;
  /** Width of the terminal; 80 where there is none. */
  readonly columns: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  /** All of stdin. Throws `too-large` beyond `bytesMax`. */
  readIn(bytesMax: number): Promise<string>;
  /** One line typed at the terminal, shown or hidden. null: the person ended it. */
  ask(question: string, hidden: boolean): Promise<string | null>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}
