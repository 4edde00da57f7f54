/** Where the demo plays: one temporary folder with everything in it, and the policy that the daemon works by. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { database, groupRole, loginRoles } from './messages.ts';

export interface Stage {
  readonly folder: string;
  readonly state: string;
  readonly schedules: string;
  readonly keyFile: string;
  /** Where the daemon renders the login for the MCP server. */
  readonly loginFile: string;
  readonly pidFile: string;
  /** Open to PostgreSQL's own account, unlike the rest. */
  readonly database: string;
  /** Once database and MCP server have their ports. Returns the file's path. */
  writePolicy(databasePort: number, reportUrl: string): Promise<string>;
  remove(): Promise<void>;
}

export const secret = 'reports-db';
export const adminSecret = 'postgres-admin';
export const keySecret = 'report-key';
/** Seconds between two rotations, and how long the old login lives on after all use the new one. */
export const everySeconds = 15;
const graceSeconds = 3;

export async function setStage(): Promise<Stage> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-demo-'));
  const at = (...parts: readonly string[]) => path.join(folder, ...parts);
  const stage: Stage = {
    folder,
    state: at('private', 'state'),
    schedules: at('private', 'schedules'),
    keyFile: at('private', 'key', 'rotated.key'),
    loginFile: at('private', 'server', 'login.json'),
    pidFile: at('private', 'server', 'server.pid'),
    database: at('postgres'),
    writePolicy: async (databasePort, reportUrl) => {
      const file = path.join(stage.schedules, 'demo.yaml');
      await writeFile(file, policy(stage, databasePort, reportUrl), { mode: 0o600 });
      return file;
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
  // PostgreSQL may run as an account of its own, which must get through to its folder, and nowhere else.
  await chmod(folder, 0o711);
  for (const each of [
    stage.state,
    stage.schedules,
    at('private', 'key'),
    at('private', 'server'),
  ]) {
    await mkdir(each, { recursive: true, mode: 0o700 });
  }
  await chmod(at('private'), 0o700);
  return stage;
}

/** What a deployment would write, but for the seconds. The two operator secrets are handed in by the demo, as a person would. */
function policy(stage: Stage, databasePort: number, reportUrl: string): string {
  return `# The demo's policy: who issues the login, where it is kept, when it changes, who uses it.
secrets:
  ${secret}:
    provider:
      use: postgres
      admin: local://demo/${adminSecret}
      roles: [${loginRoles.join(', ')}]
      grant: ${groupRole}
      host: 127.0.0.1
      port: ${databasePort}
      database: ${database}
    backend: { ref: local://demo/${secret}, fields: { PGUSER: username, PGPASSWORD: password } }
    schedule: { cron: "*/${everySeconds} * * * * *" }
    grace: ${graceSeconds}s
    consumers:
      - file:
          path: ${stage.loginFile}
          format: json
          then: { signal: SIGHUP, pidfile: ${stage.pidFile} }
        report: { http: { url: "${reportUrl}", key: "local://demo/${keySecret}#value" } }
    adoption: { timeout: 10s, then: wait }

  ${adminSecret}:
    provider:
      use: operator
      instructions: Hand in the login with which rotated makes the logins of the reports.
      fields: [username, password]
    backend: local://demo/${adminSecret}
    schedule: manual

  ${keySecret}:
    provider: { use: operator, instructions: Hand in the key that signs what the server reports. }
    backend: local://demo/${keySecret}
    schedule: manual
`;
}
