/** How one server is swapped: what a policy may say of it, and what holds where it says nothing. */

export interface ServerSettings {
  /**
   * swap: the new process stands beside the old one, then takes over. drain-window: never two at once; new calls wait until
   * the old process has answered its own and the new one is ready. pin-sessions: a session stays with its process until it
   * ends; new sessions get the new one.
   */
  readonly swap: 'swap' | 'drain-window' | 'pin-sessions';
  /** So long the old process may take for the calls it holds. Past it the revoke is postponed; an emergency may cut. */
  readonly drainMs: number;
  /** cut: in an emergency, calls still running at the end of the drain are answered with an error. */
  readonly emergency: 'drain' | 'cut';
  /** So long after the drain the old process is kept for a way back, should the new one die. */
  readonly warmMs: number;
  /** Without a call for so long, an instance is idle: its process is stopped at a change, and started at the next call. */
  readonly idleMs: number;
  /** So long a new process may take until it is ready. */
  readonly startMs: number;
  /** Tools that may be called again where it is unknown whether the first call was carried out. */
  readonly retry: readonly string[];
  /** A read-only call that really uses the credential, made before the new process takes over. */
  readonly canary: {
    readonly tool: string;
    readonly arguments: Readonly<Record<string, unknown>>;
    /** What a good answer holds: some servers put "401" into an ordinary result. */
    readonly expect?: string | undefined;
  } | null;
  /** Values of live credentials are removed from what the server says. */
  readonly redact: boolean;
  /** refuse: a new process that says it is another version of the server does not take over. */
  readonly version: 'refuse' | 'allow';
}

export const defaultSettings: ServerSettings = {
  swap: 'swap',
  drainMs: 300_000,
  emergency: 'cut',
  warmMs: 2_000,
  idleMs: 60_000,
  startMs: 30_000,
  retry: [],
  canary: null,
  redact: true,
  version: 'refuse',
};
