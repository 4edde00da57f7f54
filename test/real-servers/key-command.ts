/** The command of an `exec` provider: makes, checks and revokes keys at the key issuer (providers/exec/README.md). */

interface Ask {
  readonly call: string;
  readonly admin: { readonly value: string };
  readonly request: {
    readonly name?: string;
    readonly idempotencyToken?: string;
    readonly ref?: string;
    readonly fields?: { readonly value: string };
  };
}

const issuer = process.env['ISSUER_URL'] ?? '';
const parts: Buffer[] = [];
for await (const part of process.stdin) parts.push(part as Buffer);
const { call, admin, request } = JSON.parse(Buffer.concat(parts).toString('utf8')) as Ask;

const answer = await answerTo();
if (answer === null) process.exit(64);
process.stdout.write(JSON.stringify(answer));

async function answerTo(): Promise<object | null> {
  switch (call) {
    case 'mint': {
      const body = { name: request.name, token: request.idempotencyToken };
      const { ref, value } = await send('POST', '/keys', body);
      return { ref, fields: { value } };
    }
    case 'verify': {
      const { isAlive } = await send('POST', '/keys/verify', { value: request.fields?.value });
      return isAlive === true
        ? { ok: true }
        : { ok: false, kind: 'rejected', reason: 'the issuer knows no such key' };
    }
    case 'revoke':
      await send('DELETE', `/keys/${request.ref ?? ''}`);
      return {};
    case 'list': {
      const { keys } = await send('GET', '/keys');
      return { credentials: keys };
    }
    default:
      return null;
  }
}

async function send(
  method: string,
  path: string,
  body?: object,
): Promise<Readonly<Record<string, unknown>>> {
  const response = await fetch(issuer + path, {
    method,
    headers: { authorization: `Bearer ${admin.value}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok) process.exit(response.status === 401 ? 77 : 69);
  return (await response.json()) as Readonly<Record<string, unknown>>;
}
