/** What one bad input led to, and what of it was wrong. */
export interface CaseResult {
  readonly name: string;
  /** The first error's; null where there was none. */
  readonly code: string | null;
  /** Of policy files; null for everything else. */
  readonly line: number | null;
  readonly column: number | null;
  readonly exit: number | null;
  /** Nothing was changed by the refused command, and once the cause is gone the good secret rotates. */
  readonly stateIntact: boolean;
  /** Empty where it went as it should. */
  readonly complaints: readonly string[];
}
