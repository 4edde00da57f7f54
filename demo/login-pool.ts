/** How a server changes its database login under load without failing a call: open the new pool, switch, drain the old one. */
import { Pool, type QueryResultRow } from 'pg';

export interface Login {
  readonly generation: number;
  readonly user: string;
  readonly password: string;
}

export interface LoginPoolOptions {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** Connections of one pool. */
  readonly connectionsMax: number;
  /** New calls use the new login; `inFlight` calls still run on the old one. */
  onSwitched(generation: number, inFlight: number): void;
  /** The old login's connections are closed. */
  onDrained(generation: number): void;
}

interface Lane {
  readonly generation: number;
  readonly pool: Pool;
  inFlight: number;
  idle: (() => void) | null;
}

export class LoginPool {
  readonly #options: LoginPoolOptions;
  readonly #draining = new Set<Lane>();
  #current: Lane | null = null;

  constructor(options: LoginPoolOptions) {
    this.#options = options;
  }

  /** The oldest generation that a running call or an open connection still uses: only below it may a login be revoked. */
  get generation(): number | null {
    const inUse = [...this.#draining].map((lane) => lane.generation);
    if (this.#current !== null) inUse.push(this.#current.generation);
    return inUse.length === 0 ? null : Math.min(...inUse);
  }

  /** Runs a query on whichever login is current now, and stays on that one to the end. */
  async query<Row extends QueryResultRow>(
    text: string,
    values: readonly unknown[],
  ): Promise<{ readonly generation: number; readonly rows: readonly Row[] }> {
    const lane = this.#current;
    if (lane === null) throw new Error('No login has been delivered yet.');
    lane.inFlight += 1;
    try {
      const { rows } = await lane.pool.query<Row>(text, [...values]);
      return { generation: lane.generation, rows };
    } finally {
      lane.inFlight -= 1;
      if (lane.inFlight === 0) lane.idle?.();
    }
  }

  /** Switches to `login` once it has opened a connection; the old one drains behind. Throws, and keeps the old one, if it cannot. */
  async load(login: Login): Promise<void> {
    if (login.generation === this.#current?.generation) return;
    const { host, port, database, connectionsMax } = this.#options;
    const pool = new Pool({
      host,
      port,
      database,
      user: login.user,
      password: login.password,
      max: connectionsMax,
    });
    // An idle connection that the database ends must not end this process; the next call opens another.
    pool.on('error', () => undefined);
    try {
      await pool.query('SELECT 1');
    } catch (error) {
      await pool.end();
      throw error;
    }
    const old = this.#current;
    this.#current = { generation: login.generation, pool, inFlight: 0, idle: null };
    this.#options.onSwitched(login.generation, old?.inFlight ?? 0);
    if (old !== null) void this.#drain(old);
  }

  async close(): Promise<void> {
    const current = this.#current;
    this.#current = null;
    if (current !== null) await this.#drain(current);
  }

  async #drain(lane: Lane): Promise<void> {
    this.#draining.add(lane);
    if (lane.inFlight > 0) {
      await new Promise<void>((resolve) => {
        lane.idle = resolve;
      });
    }
    await lane.pool.end();
    this.#draining.delete(lane);
    this.#options.onDrained(lane.generation);
  }
}
