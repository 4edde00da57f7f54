/** How a key is told from other text: by the name it has, by the prefix its issuer gives it, by how random it looks. */
import { isSecretKey, looksSecret } from '../policy/plaintext.ts';

/** Forms beyond those that a policy is searched for: keys of MCP servers. Anchored: one token is looked at. */
const moreForms = [
  /^ntn_[A-Za-z0-9]{20,}$/, // Notion
  /^secret_[A-Za-z0-9]{30,}$/, // Notion, before 2024-09
  /^lin_(?:api|oauth)_[A-Za-z0-9]{20,}$/, // Linear
  /^fc-[a-f0-9]{24,}$/, // Firecrawl
  /^pplx-[A-Za-z0-9]{24,}$/,
  /^(?:sntrys|sntryu)_[A-Za-z0-9_=+/-]{20,}$/,
  /^dckr_[op]at_[A-Za-z0-9_-]{20,}$/,
  /^glsa_[A-Za-z0-9_]{20,}$/,
  /^sb(?:p|_secret)_[A-Za-z0-9_-]{20,}$/, // Supabase
  /^cf[au]t_[A-Za-z0-9_-]{20,}$/, // Cloudflare
  /^ATATT[A-Za-z0-9_=+/-]{20,}$/, // Atlassian
  /^figd_[A-Za-z0-9_-]{20,}$/,
  /^(?:xai|gsk|r8|rnd|nvapi|csk)[-_][A-Za-z0-9_-]{20,}$/,
  /^ctx7sk[-_][A-Za-z0-9_-]{16,}$/,
  /^CCIPAT_[A-Za-z0-9_]{20,}$/, // CircleCI
  /^apify_api_[A-Za-z0-9]{20,}$/,
  /^(?:napi|pat)[-_][A-Za-z0-9_.-]{24,}$/,
  /^(?:r|s)k-or-v1-[a-f0-9]{32,}$/,
  /^gsk_[A-Za-z0-9]{20,}$/,
];

const strongName =
  /(?:^|_)(?:API_?KEYS?|API_?TOKENS?|TOKENS?|SECRETS?|SECRET_KEY|PASSWORD|PASSWD|PASSPHRASE|PWD|PASS|PAT|CREDENTIALS?|PRIVATE_KEY|ACCESS_KEY|SECRET_ACCESS_KEY|AUTH_KEY|APP_KEY|SERVICE_KEY|SERVICE_ROLE_KEY|SIGNING_KEY|ENCRYPTION_KEY|AUTHORIZATION|BEARER|COOKIE)(?:_\d+)?$/;
const weakName = /(?:^|_)(?:KEY|AUTH|SESSION|DSN)(?:_\d+)?$/;
/** Names that end like a key's and are none's. */
const plainName =
  /(?:PUBLIC_KEY|PUBLISHABLE_KEY|KEY_ID|KEY_NAME|TOKEN_NAME|TOKEN_TYPE|MAX_TOKENS|MIN_TOKENS|NUM_TOKENS|TOKEN_LIMIT|SECRET_NAME|SECRET_ID|OUTPUT_TOKENS|CONTEXT_TOKENS)$/;
/** Of a place or a thing: random-looking text under such a name names something, it does not open it. */
const identifierName =
  /(?:^|_)(?:ID|IDS|UUID|URL|URI|HOST|PATH|DIR|FILE|NAME|VERSION|HASH|SHA|COMMIT|REGION|DIGEST|CHECKSUM|EMAIL|USER|USERNAME)$/;

/** `apiKey`, `--api-key`, `X-Api-Key` → `API_KEY`: the one spelling that names are compared in. */
export function upperSnake(name: string): string {
  return name
    .replace(/^-+/, '')
    .replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2')
    .replaceAll(/[^A-Za-z0-9]+/g, '_')
    .replaceAll(/^_+|_+$/g, '')
    .toUpperCase();
}

export type NameSays = 'secret' | 'maybe' | 'identifier' | 'nothing';

export function nameSays(name: string): NameSays {
  const upper = upperSnake(name);
  if (plainName.test(upper)) return 'identifier';
  if (strongName.test(upper) || isSecretKey(name)) return 'secret';
  if (identifierName.test(upper)) return 'identifier';
  return weakName.test(upper) ? 'maybe' : 'nothing';
}

/** By its prefix: whatever it is called, it is a key. */
export function hasKeyForm(token: string): boolean {
  return (
    moreForms.some((form) => form.test(token)) || (!token.includes('://') && looksSecret(token))
  );
}

const randomLengthMin = 24;
const bitsPerCharacterMin = 3.4;
const hexLengthMin = 32;
const hexBitsMin = 2.9;

/** Long, of mixed characters, without order: nobody types such a thing. Not a UUID, a path, a version, a word. */
export function looksRandom(token: string): boolean {
  if (token.length < randomLengthMin || !/^[A-Za-z0-9_\-+/=.~]+$/.test(token)) return false;
  if (/^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(token)) return false;
  if (/^[0-9a-f]+$/i.test(token)) {
    return token.length >= hexLengthMin && bitsPerCharacter(token) >= hexBitsMin;
  }
  if (token.split('/').length > 3 || /^[\d.]+$/.test(token)) return false;
  // Words joined by signs have runs of small letters between them and no digits inside.
  const words = token.split(/[-_./]/);
  if (words.length > 2 && words.every((word) => /^(?:[A-Z]?[a-z]*|\d{0,4})$/.test(word)))
    return false;
  const kinds = [/[a-z]/, /[A-Z]/, /[0-9]/].filter((kind) => kind.test(token)).length;
  return kinds >= 2 && /[0-9]/.test(token) && bitsPerCharacter(token) >= bitsPerCharacterMin;
}

/** The value of something named like a secret is one, unless it plainly is something else. */
export function canBeSecret(text: string): boolean {
  const trimmed = text.trim();
  if (trimmed.length < 3) return false;
  if (/^(?:true|false|yes|no|on|off|auto|bearer|basic|oauth2?)$/i.test(trimmed)) return false;
  return !/^-?\d{1,6}$/.test(trimmed);
}

export function isPath(text: string): boolean {
  const trimmed = text.trim();
  return (
    /^(?:file:|~\/|\.{1,2}\/|[A-Za-z]:\\)/.test(trimmed) ||
    (trimmed.startsWith('/') && /\.[A-Za-z]{1,8}$/.test(trimmed)) ||
    /^\/(?:home|Users|etc|var|opt|usr|run|tmp|mnt|root)\//.test(trimmed)
  );
}

function bitsPerCharacter(text: string): number {
  const counts = new Map<string, number>();
  for (const one of text) counts.set(one, (counts.get(one) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) {
    const share = count / text.length;
    bits -= share * Math.log2(share);
  }
  return bits;
}
