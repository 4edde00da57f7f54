/** Where the demo plays: one temporary folder with everything in it, the policy that the daemon works by, and the server's entry. */
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { AgentsSetting } from './agents.ts';
import { database, groupRole, loginRoles } from './messages.ts';

export interface Stage {
  readonly folder: string;
  readonly state: string;
  readonly schedules: string;
  readonly keyFile: string;
  /** Open to PostgreSQL's own account, unlike the rest. */
  readonly database: string;
  /** Once the database has its port. Returns the file's path. */
  writePolicy(databasePort: number): Promise<string>;
  /** How the agents start the server: what a client's config would say. */
  entry(databasePort: number): AgentsSetting;
  remove(): Promise<void>;
}

export const secret = 'reports-db';
export const adminSecret = 'postgres-admin';
/** Of the MCP server, in the policy and at the gate. */
const server = 'reports';
export const serverPackage = '@modelcontextprotocol/server-postgres';
/** Seconds between two rotations, and how long the old login lives on after all use the new one. */
export const everySeconds = 15;
const graceSeconds = 2;
/** So long an old server is kept after its last answer, for a way back. */
const warmSeconds = 1;

export async function setStage(): Promise<Stage> {
  const folder = await mkdtemp(path.join(tmpdir(), 'rotated-demo-'));
  const at = (...parts: readonly string[]) => path.join(folder, ...parts);
  const stage: Stage = {
    folder,
    state: at('private', 'state'),
    schedules: at('private', 'schedules'),
    keyFile: at('private', 'key', 'rotated.key'),
    database: at('postgres'),
    writePolicy: async (databasePort) => {
      const file = path.join(stage.schedules, 'demo.yaml');
      await writeFile(file, policy(databasePort), { mode: 0o600 });
      return file;
    },
    entry: (databasePort) => entry(stage.state, databasePort),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
  // PostgreSQL may run as an account of its own, which must get through to its folder, and nowhere else.
  await chmod(folder, 0o711);
  for (const each of [stage.state, stage.schedules, at('private', 'key')]) {
    await mkdir(each, { recursive: true, mode: 0o700 });
  }
  await chmod(at('private'), 0o700);
  return stage;
}

/** The published server, as anybody would start it; it takes its login from the environment. */
function command(databasePort: number): readonly string[] {
  return [
    process.execPath,
    inProject(`node_modules/${serverPackage}/dist/index.js`),
    `postgresql://127.0.0.1:${databasePort}/${database}`,
  ];
}

function entry(state: string, databasePort: number): AgentsSetting {
  const wrap = [inProject('bin/rotate.js'), 'wrap', '--server', server, '--state', state, '--'];
  return {
    command: process.execPath,
    args: [...wrap, ...command(databasePort)],
    env: {
      PGUSER_REF: `local://demo/${secret}#PGUSER`,
      PGPASSWORD_REF: `local://demo/${secret}#PGPASSWORD`,
    },
  };
}

function inProject(file: string): string {
  return fileURLToPath(new URL(`../${file}`, import.meta.url));
}

/** What a deployment would write, but for the seconds. The admin login is handed in by the demo, as a person would. */
function policy(databasePort: number): string {
  const question = 'tool: query, arguments: { sql: "SELECT count(*) FROM report" }';
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
    verify:
      - provider
      - mcp: { server: ${server}, ${question} }
    consumers:
      - gate:
          server: ${server}
          command: ${JSON.stringify(command(databasePort))}
          warm: ${warmSeconds}s
          canary: { ${question} }
    adoption: { timeout: 30s, then: wait }

  ${adminSecret}:
    provider:
      use: operator
      instructions: Hand in the login with which rotated makes the logins of the reports.
      fields: [username, password]
    backend: local://demo/${adminSecret}
    schedule: manual
`;
}
