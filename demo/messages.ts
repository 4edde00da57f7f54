/** What the demo's processes say to each other over their IPC channels. */

/** The issuer's process: PostgreSQL runs, with the table, the group role and the admin login. */
export interface IssuerReady {
  readonly kind: 'ready';
  readonly port: number;
  readonly adminUser: string;
  readonly adminPassword: string;
}

/** The MCP server's process. */
export type ServerMessage =
  | { readonly kind: 'ready'; readonly port: number }
  /** New calls use `generation` from here on; `inFlight` calls were running on the old login at that moment. */
  | {
      readonly kind: 'switched';
      readonly generation: number;
      readonly inFlight: number;
      readonly at: number;
    }
  /** The last of those calls has its answer, and the old connections are closed. */
  | { readonly kind: 'drained'; readonly generation: number; readonly at: number }
  | { readonly kind: 'trouble'; readonly message: string };

/** The agents' process: totals since its start. */
export interface AgentsMessage {
  readonly kind: 'calls';
  readonly calls: number;
  readonly failed: number;
  /** Asked and not answered yet. */
  readonly inFlight: number;
  readonly firstFailure: string | null;
}

/** Said by the demo to any of them. A closed channel means the same: the demo is gone. */
export interface Stop {
  readonly kind: 'stop';
}

export const database = 'reports';
export const groupRole = 'reports_read';
export const loginRoles = ['reports_a', 'reports_b'] as const;
