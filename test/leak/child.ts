/** The worst command a policy can name: shouts every secret it gets hold of on stdout and stderr, and fails; a provider in the end. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** `side`: a folder of the issuer's own, outside of everything that is searched. */
const [role = '', side = '', name = ''] = process.argv.slice(2);
const input = role === 'verify' ? '' : readFileSync(0, 'utf8');
const values = JSON.parse(readFileSync(path.join(side, 'values.json'), 'utf8')) as Readonly<
  Record<string, string>
>;
/** How often it was asked before, in this role. */
const log = path.join(side, 'log');
const before = (existsSync(log) ? readFileSync(log, 'utf8') : '').split('\n');
const nth = (what: string) => before.filter((line) => line === what).length;

function shout(text: string): void {
  for (const line of [text, Buffer.from(text).toString('base64'), encodeURIComponent(text)]) {
    process.stdout.write(`${line}\n`);
    process.stderr.write(`${line}\n`);
  }
}

function note(what: string): number {
  const count = nth(what);
  appendFileSync(log, `${what}\n`);
  return count;
}

/** stays long enough to be seen by whoever looks at processes. */
function end(code: number, answer?: object): void {
  if (answer !== undefined) process.stdout.write(JSON.stringify(answer));
  setTimeout(() => process.exit(code), 30);
}

switch (role) {
  case 'provider':
    provide();
    break;
  case 'verify': {
    shout(process.env['LEAK_VERIFY'] ?? '');
    // For the search: a value that is thrown away afterwards is known to nobody else.
    appendFileSync(path.join(side, 'verified'), `${process.env['LEAK_VERIFY']}\n`);
    const codes = [70, 75, 1];
    end(codes[note('verify')] ?? 1);
    break;
  }
  case 'report': {
    const id = values[name] ?? '';
    const count = note('report');
    // One that is no report, one with a wrong type, then one whose only fault is its name.
    if (count % 3 === 0) shout(id);
    else if (count % 3 === 1) end(0, { instances: [{ id, generation: id, state: id }] });
    else end(0, { instances: [{ id: '\u0007', generation: 1, state: 'serving', secret: id }] });
    if (count % 3 === 0) end(1);
    break;
  }
  default:
    shout(`${input}${JSON.stringify(values)}`);
    note(role);
    end(1);
}

interface Request {
  readonly call: string;
  readonly secret: string;
  readonly admin: Readonly<Record<string, string>> | null;
  readonly request: {
    readonly generation?: number;
    readonly ref?: string | null;
    readonly fields?: Readonly<Record<string, string>>;
  };
}

function provide(): void {
  const { call, secret, admin, request } = JSON.parse(input) as Request;
  const adminKey = admin?.['key'] ?? '';
  const value = `${values[`minted by the command of ${secret}`]}-${request.generation ?? 0}`;
  const mine = { ref: `token-${secret}-${request.generation}`, fields: { value } };
  process.stderr.write(input + value);
  const count = note(`${secret} ${call}`);
  switch (call) {
    case 'check':
      return end(0, { findings: findings(adminKey) });
    case 'mint':
      if (secret === 'exec-reason' || count >= 4) return end(0, mine);
      if (count === 0) return fail(70, value + adminKey);
      if (count === 1)
        return end(0, { error: { code: 'unavailable', message: value, ref: value } });
      if (count === 2) return end(0, { ref: value, fields: { value } });
      return end(0, { ref: 5, fields: { value }, scopes: [value] });
    case 'verify': {
      const used = request.fields?.['value'] ?? '';
      if (secret === 'exec-reason') {
        return end(0, { ok: false, kind: 'rejected', reason: reason(used, adminKey, count) });
      }
      return existsSync(path.join(side, `dead-${request.ref ?? ''}`))
        ? end(0, { ok: false, kind: 'rejected', reason: `${used} is dead` })
        : end(0, { ok: true, identity: 'the account' });
    }
    case 'revoke': {
      if (count === 0) return fail(1, value + adminKey);
      writeFileSync(path.join(side, `dead-${request.ref ?? ''}`), '');
      return end(0, {});
    }
    default:
      return fail(64, input);
  }
}

function fail(code: number, text: string): void {
  shout(text);
  end(code);
}

/** Whole, encoded, and where the text is cut in the middle of it. */
function reason(used: string, adminKey: string, count: number): string {
  const texts = [
    `${used} was refused for ${adminKey}`,
    `${encodeURIComponent(used)} ${Buffer.from(used).toString('hex')} ${JSON.stringify({ used })}`,
    `${'x'.repeat(480)} ${used}`,
    Buffer.from(`user:${used}`).toString('base64'),
    Buffer.from(`u:${used}`).toString('base64url'),
  ];
  return texts[count % texts.length] ?? '';
}

function findings(adminKey: string): object[] {
  return [5, 470, 480, 485, 490].map((length, index) => ({
    name: `shout-${index}`,
    level: 'amber',
    message: `${'x'.repeat(length)} ${adminKey}`,
    why: Buffer.from(`a${adminKey}`).toString('base64'),
    mend: JSON.stringify({ key: adminKey, text: encodeURIComponent(adminKey) }),
  }));
}
