/** What in a policy looks like a secret written out: a mistake, and never repeated in a message. */
import type { Path } from './document.ts';

/** Values that are secrets whatever their key: by the prefixes issuers give them, so that scanners can find them. */
const knownForms = new RegExp(
  [
    'sk-(ant-|proj-|svcacct-)?[A-Za-z0-9_-]{16,}', // OpenAI, Anthropic
    '[rsp]k_(live|test)_[A-Za-z0-9]{10,}', // Stripe
    'gh[pousr]_[A-Za-z0-9]{20,}',
    'github_pat_[A-Za-z0-9_]{20,}',
    'glpat-[A-Za-z0-9_-]{16,}',
    'xox[abeoprs]-[A-Za-z0-9-]{10,}', // Slack
    'xapp-[A-Za-z0-9-]{10,}',
    '(AKIA|ASIA)[A-Z0-9]{16}', // AWS
    'AIza[A-Za-z0-9_-]{30,}', // Google
    'ya29\\.[A-Za-z0-9_-]{20,}',
    'hv[sb]\\.[A-Za-z0-9_-]{20,}', // Vault
    'ops_ey[A-Za-z0-9_-]{20,}', // 1Password
    'npm_[A-Za-z0-9]{30,}',
    'pypi-[A-Za-z0-9_-]{30,}',
    'hf_[A-Za-z0-9]{20,}',
    'SG\\.[A-Za-z0-9_-]{16,}\\.[A-Za-z0-9_-]{16,}', // SendGrid
    'do[opr]_v1_[a-f0-9]{32,}', // DigitalOcean
    'shp(at|ca|pa|ss)_[a-fA-F0-9]{20,}', // Shopify
    'tvly-[A-Za-z0-9_-]{12,}', // Tavily
    'BSA[A-Za-z0-9_-]{24,}', // Brave Search
    'eyJ[A-Za-z0-9_-]{8,}\\.eyJ[A-Za-z0-9_-]{8,}\\.', // a signed JWT
    '-----BEGIN [A-Z ]*PRIVATE KEY-----',
    'SCRAM-SHA-256\\$\\d+:',
    // A URL with a password in it.
    '[A-Za-z][A-Za-z0-9+.-]*://[^/\\s:@]*:[^/\\s@$]+@',
  ].join('|'),
);

/** Keys whose value is a secret, in any spelling: compared without case, "-" and "_". */
const secretKeys = new Set([
  'password',
  'passwd',
  'pwd',
  'passphrase',
  'secret',
  'secretkey',
  'secretaccesskey',
  'clientsecret',
  'token',
  'accesstoken',
  'authtoken',
  'bearertoken',
  'refreshtoken',
  'apikey',
  'apitoken',
  'apisecret',
  'accesskey',
  'privatekey',
  'signingkey',
  'credential',
  'credentials',
  'authorization',
  'proxyauthorization',
  'cookie',
  'xapikey',
  'xauthtoken',
]);

/** True where the text is a secret by its form alone. */
export function looksSecret(text: string): boolean {
  return knownForms.test(text);
}

export function isSecretKey(key: string): boolean {
  return secretKeys.has(key.toLowerCase().replaceAll(/[_-]/g, ''));
}

export interface PlaintextFind {
  readonly path: Path;
  /** For scrubbing only: it goes into no message. */
  readonly value: string;
}

/** Every secret written out in the value of a policy file. */
export function findPlaintext(root: unknown): readonly PlaintextFind[] {
  const found: PlaintextFind[] = [];
  visit(root, [], false, found);
  return found;
}

/**
 * @param isNames below `fields` and `env` stand names of fields, and `password: password` is right there.
 */
function visit(value: unknown, path: Path, isNames: boolean, found: PlaintextFind[]): void {
  if (typeof value === 'string') {
    const key = path.findLast((part) => typeof part === 'string') ?? '';
    // Names of secrets and hooks are the writer's own: a secret named `token` holds no token here.
    const isKeyed = !isNames && path.length > 2 && isSecretKey(key) && !isIndirect(value);
    if (isKeyed || looksSecret(value)) found.push({ path, value });
    return;
  }
  if (typeof value === 'number') {
    const key = path.at(-1);
    if (!isNames && path.length > 2 && typeof key === 'string' && isSecretKey(key)) {
      found.push({ path, value: String(value) });
    }
    return;
  }
  if (Array.isArray(value)) {
    value.forEach((part: unknown, index) => {
      const before: unknown = value[index - 1];
      const flag = typeof part === 'string' ? /^--?([A-Za-z][\w-]*)(?:=(.+))?$/s.exec(part) : null;
      if (flag?.[2] !== undefined && isSecretKey(flag[1] ?? '') && !isIndirect(flag[2])) {
        found.push({ path: [...path, index], value: flag[2] });
      } else if (
        typeof part === 'string' &&
        isSecretFlag(before) &&
        !part.startsWith('-') &&
        !isIndirect(part)
      ) {
        found.push({ path: [...path, index], value: part });
      } else {
        // The key above a list of words is not the key of each: `match: [x]`, `tags: [x]`.
        visit(part, [...path, index], isNames, found);
      }
    });
    return;
  }
  if (typeof value === 'object' && value !== null) {
    for (const [key, part] of Object.entries(value)) {
      if (looksSecret(key)) found.push({ path: [...path, key], value: key });
      visit(part, [...path, key], isNamesMap(path, key), found);
    }
  }
}

function isSecretFlag(argument: unknown): boolean {
  const flag = typeof argument === 'string' ? /^--?([A-Za-z][\w-]*)$/.exec(argument) : null;
  return flag !== null && isSecretKey(flag[1] ?? '');
}

/** `backend.fields` and a check's `env`, and what stands in them. */
function isNamesMap(above: Path, key: string): boolean {
  const names = [...above, key].filter((part) => typeof part === 'string');
  const [, , section, second, third] = names;
  return (
    (section === 'backend' && second === 'fields') ||
    (section === 'verify' && second === 'exec' && third === 'env')
  );
}

/** A reference or a placeholder says where the secret stands, or nothing is there. */
function isIndirect(value: string): boolean {
  return (
    value === '' ||
    /^[a-z]+:\/\/[^:@]*$/.test(value) ||
    // As a gate's entry writes it: `--api-key={{local://mcp/search#KEY}}`.
    /^\{\{[a-z]+:\/\/[^{}]+\}\}$/.test(value) ||
    value.includes('${')
  );
}
