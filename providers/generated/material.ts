/** How each kind of credential is made from random bytes, and how one is tried without any issuer. */
import {
  createECDH,
  createHash,
  createPrivateKey,
  createPublicKey,
  type JsonWebKey,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import type { Random } from '../../src/clock.ts';
import { type Fields, Secret } from '../../src/provider/provider.ts';
import { randomText } from '../../src/provider/random-text.ts';
import type { GeneratedOptions } from './options.ts';

const hashBytes = { HS256: 32, HS384: 48, HS512: 64 } as const;
/** PKCS#8 of an Ed25519 key up to its 32 bytes of seed: RFC 8410, section 7. */
const ed25519Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');
/** The order of P-256, SEC 2 section 2.4.2: a private key lies between 0 and this. */
const p256Order = Buffer.from(
  'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551',
  'hex',
);

/** Depends on nothing but options and random bytes. */
export function makeFields(options: GeneratedOptions, random: Random): Fields {
  switch (options.kind) {
    case 'random':
      return { value: new Secret(options.prefix + randomBody(options, random)) };
    case 'hmac': {
      const key = random.bytes(hashBytes[options.algorithm]).toString(options.encoding);
      return { value: new Secret(key), kid: new Secret(random.bytes(8).toString('hex')) };
    }
    case 'ed25519': {
      const key = ed25519Key(random);
      return { privateKey: new Secret(pem(key)), ...jwks(key, 'EdDSA'), publicKey: publicPem(key) };
    }
    case 'jwt':
      return jwks(
        options.algorithm === 'EdDSA' ? ed25519Key(random) : p256Key(random),
        options.algorithm,
      );
    default:
      return options satisfies never;
  }
}

/** null where the fields are a working credential of this kind; else what is wrong, without quoting anything. */
export function problemOf(options: GeneratedOptions, fields: Fields): string | null {
  try {
    return findProblem(options, fields);
  } catch {
    // node:crypto throws on material it cannot read, and may quote it.
    return 'the key cannot be read';
  }
}

/** A backend may keep only some of the fields: what is there must be sound and belong together. */
function findProblem(options: GeneratedOptions, fields: Fields): string | null {
  const text = (name: string): string | undefined => fields[name]?.reveal();
  switch (options.kind) {
    case 'random':
      return isRandom(options, text('value') ?? '')
        ? null
        : 'the value has another form than was generated';
    case 'hmac': {
      const key = Buffer.from(text('value') ?? '', options.encoding);
      const isWhole =
        key.length === hashBytes[options.algorithm] &&
        key.toString(options.encoding) === text('value');
      return isWhole ? null : 'the key has another length or encoding';
    }
    case 'ed25519': {
      const own = text('privateKey');
      const shared = text('publicKey');
      if (own === undefined) return jwkProblem(fields, 'EdDSA');
      const key = createPrivateKey(own);
      if (!signs(key, createPublicKey(shared ?? key))) return 'the keys are not a pair';
      return text('privateJwk') === undefined ? null : jwkProblem(fields, 'EdDSA');
    }
    case 'jwt':
      return jwkProblem(fields, options.algorithm);
    default:
      return options satisfies never;
  }
}

const probe = Buffer.from('rotated: does this key pair sign and verify?');

function jwkProblem(fields: Fields, algorithm: string): string | null {
  const own = readJwk(fields, 'privateJwk');
  if (own === null) return 'the private key is missing';
  const shared = readJwk(fields, 'publicJwk');
  const parts = shared === null ? [own] : [own, shared];
  if (parts.some((jwk) => jwk.alg !== algorithm)) return 'the keys are for another algorithm';
  const kid = fields['kid']?.reveal() ?? own.kid;
  if (parts.some((jwk) => jwk.kid !== kid)) return 'the key ids differ';
  // A public set that carries the private part would hand it to every verifier.
  if (shared?.d !== undefined) return 'the public key holds the private one';
  const key = createPrivateKey({ key: own, format: 'jwk' });
  const other =
    shared === null ? createPublicKey(key) : createPublicKey({ key: shared, format: 'jwk' });
  return signs(key, other) ? null : 'the keys are not a pair';
}

type NamedJwk = JsonWebKey & { kid?: string; alg?: string };

function readJwk(fields: Fields, name: string): NamedJwk | null {
  const text = fields[name]?.reveal();
  return text === undefined ? null : (JSON.parse(text) as NamedJwk);
}

function signs(own: KeyObject, shared: KeyObject): boolean {
  const hash = own.asymmetricKeyType === 'ec' ? 'sha256' : null;
  return verify(hash, probe, shared, sign(hash, probe, own));
}

type RandomOptions = Extract<GeneratedOptions, { kind: 'random' }>;

function randomBody({ length, encoding, alphabet }: RandomOptions, random: Random): string {
  return encoding === 'alphabet'
    ? randomText(random, length, alphabet)
    : random.bytes(length).toString(encoding);
}

function isRandom({ length, encoding, alphabet, prefix }: RandomOptions, value: string): boolean {
  if (!value.startsWith(prefix)) return false;
  const body = value.slice(prefix.length);
  if (encoding === 'alphabet') {
    return (
      body.length === length && body.split('').every((one) => alphabet?.includes(one) === true)
    );
  }
  const bytes = Buffer.from(body, encoding);
  return bytes.length === length && bytes.toString(encoding) === body;
}

function ed25519Key(random: Random): KeyObject {
  const key = Buffer.concat([ed25519Prefix, random.bytes(32)]);
  return createPrivateKey({ key, format: 'der', type: 'pkcs8' });
}

function p256Key(random: Random): KeyObject {
  let scalar = random.bytes(32);
  // One draw in 2^32 falls outside.
  while (scalar.compare(p256Order) >= 0 || scalar.every((byte) => byte === 0)) {
    scalar = random.bytes(32);
  }
  const curve = createECDH('prime256v1');
  curve.setPrivateKey(scalar);
  const point = curve.getPublicKey();
  const part = (from: number): string => point.subarray(from, from + 32).toString('base64url');
  const key = { kty: 'EC', crv: 'P-256', x: part(1), y: part(33), d: scalar.toString('base64url') };
  return createPrivateKey({ key, format: 'jwk' });
}

function jwks(key: KeyObject, alg: 'EdDSA' | 'ES256'): Fields {
  const { kty, crv, x, y, d } = key.export({ format: 'jwk' });
  const shared = { kty, crv, x, ...(y === undefined ? {} : { y }) };
  const kid = thumbprint(shared);
  const usage = { use: 'sig', alg, kid };
  return {
    privateJwk: new Secret(JSON.stringify({ ...shared, d, ...usage })),
    publicJwk: new Secret(JSON.stringify({ ...shared, ...usage })),
    kid: new Secret(kid),
  };
}

/** RFC 7638: the required members in the order of their names, hashed. */
function thumbprint(jwk: Record<string, unknown>): string {
  const ordered = Object.fromEntries(
    ['crv', 'kty', 'x', 'y'].flatMap((name) =>
      jwk[name] === undefined ? [] : [[name, jwk[name]]],
    ),
  );
  return createHash('sha256').update(JSON.stringify(ordered)).digest('base64url');
}

function pem(key: KeyObject): string {
  return String(key.export({ format: 'pem', type: 'pkcs8' }));
}

function publicPem(key: KeyObject): Secret {
  return new Secret(String(createPublicKey(key).export({ format: 'pem', type: 'spki' })));
}
