/** What the demo's processes say to each other over their IPC channels. */

/** The issuer's process: PostgreSQL runs, with the table, the group role and the admin login. */
export interface IssuerReady {
  readonly kind: 'ready';
  readonly port: number;
  readonly adminUser: string;
  readonly adminPassword: string;
}

/** The agents' process. */
export type AgentsMessage =
  /** Totals since its start. */
  | {
      readonly kind: 'calls';
      readonly calls: number;
      readonly failed: number;
      /** Asked and not answered yet. */
      readonly inFlight: number;
      readonly firstFailure: string | null;
    }
  /** The first answer for another login: a new server answers this agent, and so many calls still run on the one before. */
  | {
      readonly kind: 'flipped';
      readonly agent: number;
      readonly login: string;
      readonly inFlight: number;
      readonly at: number;
    }
  /** The last of those calls has its answer; so many were answered for the old login. */
  | {
      readonly kind: 'drained';
      readonly agent: number;
      readonly servedByOld: number;
      readonly at: number;
    };

/** Said by the demo to any of them. A closed channel means the same: the demo is gone. */
export interface Stop {
  readonly kind: 'stop';
}

export const database = 'reports';
export const groupRole = 'reports_read';
export const loginRoles = ['reports_a', 'reports_b'] as const;
/** Each has an MCP server of its own, as every client of a server has. */
export const agentCount = 3;
