/** What belongs at each place of a policy file, in words and as a correct example: for messages. */

export interface Expected {
  /** The code of a problem where something of another kind stands there. */
  readonly code: string;
  readonly what: string;
  /** One or more lines of YAML that may be pasted. */
  readonly example: string;
}

/** What should stand at this path; for a place that has no entry, what the nearest place above it should hold. */
export function expectedAt(path: readonly (string | number)[]): Expected {
  // Positions in lists do not matter, and a single entry may stand where a list may.
  const names = path.filter((part): part is string => typeof part === 'string');
  for (let length = names.length; length > 0; length--) {
    const entry = byLength
      .get(length)
      ?.find(({ parts }) => parts.every((part, index) => part === '*' || part === names[index]));
    if (entry !== undefined) return entry.expected;
  }
  return whole;
}

const duration = (key: string, value: string): Expected => ({
  code: 'bad-duration',
  what: 'a span of time with its unit',
  example: `${key}: ${value}`,
});
const value = (what: string, example: string, code = 'bad-value'): Expected => ({
  code,
  what,
  example,
});
const command = (example: string) =>
  value('a list: the program and its arguments', example, 'bad-command');

const whole = value(
  'a map with the key secrets',
  'secrets: { reports-db: { provider: { use: generated, kind: random }, backend: local://mcp/reports-db, every: 30d } }',
  'wrong-type',
);
const file = 'file: { path: /run/reports/db.json, format: json }';
const signal = 'signal: { signal: SIGHUP, pidfile: /run/reports.pid }';
const httpConsumer = 'http: { url: "http://127.0.0.1:8080/reload", key: local://keys/reload }';
const gate = 'gate: { server: search, command: [npx, -y, some-search-mcp] }';
const verifyMcp =
  'mcp: { command: [npx, -y, some-search-mcp], env: { SEARCH_API_KEY: "${value}" }, tool: whoami }';
const freeze = 'freeze: [{ from: 2026-12-20, to: 2027-01-04, reason: holidays }]';
const window = 'window: { days: [sat, sun], from: "01:00", to: "06:00" }';
const verifyHttp =
  'http: { url: "https://api.example.com/me", headers: { Authorization: "Bearer ${api_key}" } }';

const table: Readonly<Record<string, Expected>> = {
  secrets: value('a map: the name of a secret, then its policy', whole.example, 'wrong-type'),
  'secrets.*': value(
    'a policy: a map with provider, backend and schedule',
    'reports-db: { provider: { use: generated, kind: random }, backend: local://mcp/reports-db, every: 30d }',
    'wrong-type',
  ),
  'secrets.*.tags': value('a list of words', 'tags: [mcp, database]'),
  'secrets.*.group': value('a name', 'group: search', 'bad-name'),
  'secrets.*.provider': value(
    'the name of a provider, or a map with use and its options',
    'provider: { use: generated, kind: random }',
  ),
  'secrets.*.provider.use': value('the name of a provider', 'use: generated'),
  'secrets.*.provider.admin': value(
    'a place in a secrets backend',
    'admin: local://admin/postgres',
    'bad-reference',
  ),
  'secrets.*.provider.*': value(
    'an option of the provider',
    'provider: { use: generated, kind: random }',
    'provider-option',
  ),
  'secrets.*.backend': value(
    'a place in a secrets backend, or a map with ref and fields',
    'backend: local://mcp/reports-db',
    'bad-reference',
  ),
  'secrets.*.backend.ref': value(
    'a place in a secrets backend',
    'ref: local://mcp/reports-db',
    'bad-reference',
  ),
  'secrets.*.backend.fields': value(
    "a map: field of the item, then the provider's field",
    'fields: { PGUSER: username, PGPASSWORD: password }',
  ),
  'secrets.*.backend.fields.*': value("the provider's field", 'PGPASSWORD: password', 'bad-name'),
  'secrets.*.schedule': value(
    'a map with cron or every, or the word manual',
    'schedule: { cron: "0 3 * * 0", timezone: Europe/Berlin }',
  ),
  'secrets.*.schedule.cron': value(
    'five fields, or six with seconds first, in quotes',
    'cron: "0 3 * * 0"',
    'bad-cron',
  ),
  'secrets.*.schedule.every': duration('every', '30d'),
  'secrets.*.schedule.manual': value('true', 'schedule: manual'),
  'secrets.*.schedule.timezone': value(
    'an IANA name of a time zone',
    'timezone: Europe/Berlin',
    'bad-timezone',
  ),
  'secrets.*.schedule.splay': duration('splay', '10m'),
  'secrets.*.schedule.window': value('a map with days, from and to', window),
  'secrets.*.schedule.window.days': value('a list of days', 'days: [mon, tue, wed, thu, fri]'),
  'secrets.*.schedule.window.from': value('a time of day in quotes', 'from: "01:00"'),
  'secrets.*.schedule.window.to': value('a time of day in quotes', 'to: "06:00"'),
  'secrets.*.schedule.freeze': value('a list of maps with from and to', freeze),
  'secrets.*.schedule.freeze.from': value('a local date, or date and time', 'from: 2026-12-20'),
  'secrets.*.schedule.freeze.to': value(
    'a local date, or date and time, that is after from',
    'to: 2027-01-04T08:00',
  ),
  'secrets.*.schedule.freeze.reason': value('a few words', 'reason: holidays'),
  'secrets.*.schedule.missed': value('once or skip', 'missed: once'),
  'secrets.*.schedule.ageMin': duration('ageMin', '7d'),
  'secrets.*.schedule.ageMax': duration('ageMax', '90d'),
  'secrets.*.every': duration('every', '30d'),
  'secrets.*.grace': duration('grace', '24h'),
  'secrets.*.quiet': duration('quiet', '1h'),
  'secrets.*.verify': value(
    'a list of checks: provider, http, exec or mcp',
    'verify: [provider, { exec: { command: [./check-report, --dry-run] } }]',
  ),
  'secrets.*.verify.http': value('a URL, or a map with url', verifyHttp, 'bad-url'),
  'secrets.*.verify.http.url': value(
    'an http or https URL',
    'url: "https://api.example.com/me"',
    'bad-url',
  ),
  'secrets.*.verify.http.method': value('a method', 'method: POST'),
  'secrets.*.verify.http.headers': value(
    'a map: header, then its text',
    'headers: { Authorization: "Bearer ${api_key}" }',
  ),
  'secrets.*.verify.http.headers.*': value('a text', 'Authorization: "Bearer ${api_key}"'),
  'secrets.*.verify.http.body': value('a text', 'body: \'{"key":"${api_key}"}\''),
  'secrets.*.verify.http.expect': value('a status, or a list of them', 'expect: [200, 204]'),
  'secrets.*.verify.http.timeout': duration('timeout', '10s'),
  'secrets.*.verify.exec': command('exec: { command: [./check-report, --dry-run] }'),
  'secrets.*.verify.exec.env': value(
    'a map: name in the environment, then a field of the item',
    'env: { PGPASSWORD: password }',
  ),
  'secrets.*.verify.exec.env.*': value('a field of the item', 'PGPASSWORD: password', 'bad-name'),
  'secrets.*.verify.exec.timeout': duration('timeout', '30s'),
  'secrets.*.verify.mcp': value('a map with command or server, and tool', verifyMcp),
  'secrets.*.verify.mcp.server': value('the name of a server', 'server: search', 'bad-name'),
  'secrets.*.verify.mcp.command': command('command: [npx, -y, some-search-mcp]'),
  'secrets.*.verify.mcp.env': value(
    'a map: name in the environment, then its text',
    'env: { SEARCH_API_KEY: "${value}" }',
  ),
  'secrets.*.verify.mcp.env.*': value('a text', 'SEARCH_API_KEY: "${value}"'),
  'secrets.*.verify.mcp.tool': value('the name of a tool', 'tool: whoami'),
  'secrets.*.verify.mcp.arguments': value('a map', 'arguments: { limit: 1 }'),
  'secrets.*.verify.mcp.expect': value('a text', 'expect: results'),
  'secrets.*.verify.mcp.timeout': duration('timeout', '30s'),
  'secrets.*.consumers': value(
    'a list of consumers: each has signal, http, exec, file or gate',
    `consumers: [{ ${file} }]`,
  ),
  'secrets.*.consumers.role': value('user or verifier', 'role: verifier'),
  'secrets.*.consumers.timeout': duration('timeout', '10s'),
  'secrets.*.consumers.signal': value('a map with signal and pidfile or match', signal),
  'secrets.*.consumers.signal.signal': value('the name of a signal', 'signal: SIGHUP'),
  'secrets.*.consumers.http': value('a URL, or a map with url and key', httpConsumer, 'bad-url'),
  'secrets.*.consumers.http.key': value(
    'a place in a secrets backend',
    'key: local://keys/reload',
    'bad-reference',
  ),
  'secrets.*.consumers.exec': command('exec: [systemctl, reload, reports]'),
  'secrets.*.consumers.file': value('a map with path', file),
  'secrets.*.consumers.file.format': value('env, json or template', 'format: env'),
  'secrets.*.consumers.file.mode': value('octal digits in quotes', 'mode: "0600"'),
  'secrets.*.consumers.file.template': value('a path', 'template: ./reports.conf.template'),
  'secrets.*.consumers.file.then': value(
    'a signal',
    'then: { signal: SIGHUP, pidfile: /run/reports.pid }',
  ),
  'secrets.*.consumers.gate': value('the name of a server, or a map with server', gate, 'bad-name'),
  'secrets.*.consumers.gate.server': value('the name of a server', 'server: search', 'bad-name'),
  'secrets.*.consumers.gate.command': command('command: [npx, -y, some-search-mcp]'),
  'secrets.*.consumers.gate.swap': value('swap, drain-window or pin-sessions', 'swap: swap'),
  'secrets.*.consumers.gate.drain': duration('drain', '5m'),
  'secrets.*.consumers.gate.emergency': value('drain or cut', 'emergency: cut'),
  'secrets.*.consumers.gate.warm': duration('warm', '2s'),
  'secrets.*.consumers.gate.idle': duration('idle', '60s'),
  'secrets.*.consumers.gate.start': duration('start', '30s'),
  'secrets.*.consumers.gate.retry': value('a list of tools', 'retry: [search]'),
  'secrets.*.consumers.gate.canary': value(
    'a map with tool and arguments',
    'canary: { tool: whoami, arguments: {} }',
  ),
  'secrets.*.consumers.gate.canary.tool': value('the name of a tool', 'tool: whoami'),
  'secrets.*.consumers.gate.canary.arguments': value('a map', 'arguments: { limit: 1 }'),
  'secrets.*.consumers.gate.canary.expect': value('a text', 'expect: results'),
  'secrets.*.consumers.gate.redact': value('true or false', 'redact: true'),
  'secrets.*.consumers.gate.version': value('refuse or allow', 'version: refuse'),
  'secrets.*.consumers.report': value(
    'a map with http, exec or file',
    'report: { http: "http://127.0.0.1:9090/generation" }',
  ),
  'secrets.*.consumers.report.http': value(
    'a URL, or a map with url and key',
    'http: "http://127.0.0.1:9090/generation"',
    'bad-url',
  ),
  'secrets.*.consumers.report.http.key': value(
    'a place in a secrets backend',
    'key: local://keys/report',
    'bad-reference',
  ),
  'secrets.*.consumers.report.exec': command('exec: [./generations]'),
  'secrets.*.consumers.report.file': value('a path', 'file: /run/reports/generations.json'),
  'secrets.*.adoption': value(
    'a map with timeout and then',
    'adoption: { timeout: 15m, then: wait }',
  ),
  'secrets.*.adoption.timeout': duration('timeout', '15m'),
  'secrets.*.adoption.then': value('wait, revoke or rollback', 'then: wait'),
  'secrets.*.failure': value(
    'a map with attempts and pauseAfter',
    'failure: { attempts: 5, pauseAfter: 3 }',
  ),
  'secrets.*.failure.attempts': value('a whole number from 1 to 100', 'attempts: 5'),
  'secrets.*.failure.pauseAfter': value('a whole number from 1 to 100', 'pauseAfter: 3'),
  'secrets.*.emergency': value(
    'a map with mode and deadline',
    'emergency: { mode: continuity, deadline: 5m }',
  ),
  'secrets.*.emergency.mode': value('continuity or contain', 'mode: contain'),
  'secrets.*.emergency.deadline': duration('deadline', '5m'),
  'secrets.*.escrow': value('true or false', 'escrow: false'),
  'secrets.*.notify': value('a list of names from notifiers', 'notify: [ops-hook]', 'bad-name'),
  notifiers: value(
    'a map: the name of a hook, then exec or http',
    'notifiers: { ops-hook: { http: "https://hooks.example.com/rotated" } }',
    'wrong-type',
  ),
  'notifiers.*': value(
    'a map with exec or http',
    'ops-hook: { exec: [/usr/local/bin/tell-ops] }',
    'wrong-type',
  ),
  'notifiers.*.exec': command('exec: [/usr/local/bin/tell-ops]'),
  'notifiers.*.http': value(
    'an http or https URL',
    'http: "https://hooks.example.com/rotated"',
    'bad-url',
  ),
};

/** Exact names before wildcards, so that `provider.use` is not taken for an option. */
const byLength = Map.groupBy(
  Object.entries(table)
    .map(([path, expected]) => ({ parts: path.split('.'), expected }))
    .sort((a, b) => stars(a.parts) - stars(b.parts)),
  ({ parts }) => parts.length,
);

function stars(parts: readonly string[]): number {
  return parts.filter((part) => part === '*').length;
}
