/** Which commands there are: name, summary, and the file that each lives in, loaded only when it is called. */
import type { CommandModule } from './command.ts';

export interface CommandEntry {
  readonly summary: string;
  readonly arguments: string;
  readonly load: () => Promise<CommandModule>;
}

export const commands: Readonly<Record<string, CommandEntry>> = {
  status: {
    summary: 'age, next due, phase, debts and last result of every secret',
    arguments: '[names...]',
    load: () => import('./commands/status.ts'),
  },
  run: {
    summary: 'rotate now, the ordinary way: with grace and all checks',
    arguments: '[names...]',
    load: () => import('./commands/run.ts'),
  },
  now: {
    summary: 'the present keys have leaked: replace them and end them (also: rotate --now)',
    arguments: '[names...]',
    load: () => import('./commands/now.ts'),
  },
  plan: {
    summary: 'what the next rotation will do, and when; changes nothing',
    arguments: '[names...]',
    load: () => import('./commands/plan.ts'),
  },
  history: {
    summary: 'the rotations so far, newest first',
    arguments: '[name]',
    load: () => import('./commands/history.ts'),
  },
  rollback: {
    summary: 'go back to the credential before, while it still lives',
    arguments: '<name>',
    load: () => import('./commands/rollback.ts'),
  },
  abandon: {
    summary: 'end a rotation that has not been promoted; the present credential stays',
    arguments: '<name>',
    load: () => import('./commands/abandon.ts'),
  },
  pause: {
    summary: 'stop the schedule of a secret; asked rotations still work',
    arguments: '<name>',
    load: () => import('./commands/pause.ts'),
  },
  resume: {
    summary: 'let a paused or parked secret go on',
    arguments: '<name>',
    load: () => import('./commands/resume.ts'),
  },
  supply: {
    summary: 'hand in a new credential that a person made: at a prompt, or on stdin',
    arguments: '<name>',
    load: () => import('./commands/supply.ts'),
  },
  confirm: {
    summary: 'vouch for what cannot be seen: that consumers use the new key, or a debt is settled',
    arguments: '<name>',
    load: () => import('./commands/confirm.ts'),
  },
  read: {
    summary: 'print a credential; audited, to a terminal only with --reveal',
    arguments: '<name>',
    load: () => import('./commands/read.ts'),
  },
  restore: {
    summary: 'write the sealed copy back to a backend that lost its item',
    arguments: '<name>',
    load: () => import('./commands/restore.ts'),
  },
  allow: {
    summary: 'let a running MCP server have what it asks for: it gets no value without',
    arguments: '[name] [rest...]',
    load: () => import('./commands/allow.ts'),
  },
  audit: {
    summary: 'the audit trail; `audit verify` proves that no line was changed',
    arguments: '[name]',
    load: () => import('./commands/audit.ts'),
  },
  doctor: {
    summary: 'look for what is wrong, and say how to mend it; changes nothing',
    arguments: '[names...]',
    load: () => import('./commands/doctor.ts'),
  },
  import: {
    summary: "move the plaintext keys out of MCP clients' configs, behind rotate wrap",
    arguments: '<files...>',
    load: () => import('./commands/import.ts'),
  },
  init: {
    summary: 'write a first working policy and the key',
    arguments: '',
    load: () => import('./commands/init.ts'),
  },
  schema: {
    summary: 'the JSON Schema of policy files, for editors',
    arguments: '',
    load: () => import('./commands/schema.ts'),
  },
  wrap: {
    summary: 'start an MCP server whose credentials are replaced while it runs',
    arguments: '[command...]',
    load: () => import('./commands/wrap.ts'),
  },
  gate: {
    summary: 'serve MCP servers on one HTTP port, their credentials replaced while they run',
    arguments: '',
    load: () => import('./commands/gate.ts'),
  },
  serve: {
    summary: 'run the service in the foreground (also: rotated, without a command)',
    arguments: '',
    load: () => import('./commands/serve.ts'),
  },
};
