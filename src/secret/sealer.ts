/** Seals credentials with AES-256-GCM under data keys, and opens them only in the place they were sealed for. */
import { createCipheriv, createDecipheriv, createSecretKey } from 'node:crypto';
import type { Random } from '../clock.ts';
import { isRotatedError, RotatedError } from '../errors.ts';
import { canonicalJson } from './canonical.ts';
import { createKeyCache } from './key-cache.ts';
import { keyBytes } from './key-encryption-key.ts';
import type { KeyEncryptionKey, SealContext, Sealed, Sealer, WrappedKey } from './sealing.ts';
import { type Fields, Secret } from './secret.ts';

export interface SealingKeys {
  /** Wraps what is sealed from now on. */
  readonly current: KeyEncryptionKey;
  /** Open what was sealed before; `current` is among them. */
  readonly all: readonly KeyEncryptionKey[];
}

const ivBytes = 12;
const tagBytes = 16;
/** Data keys made here and still unwrapped: more than the rotations that can be between intent and seal at once. */
const ownKeysMost = 4_096;
/** Data keys unwrapped to read: spares a KMS a call for each read of the same record. */
const openedKeysMost = 1_024;

export function createSealer(keys: SealingKeys, random: Random): Sealer {
  const byId = new Map([...keys.all, keys.current].map((key) => [key.id, key]));
  // Two caches, so that many reads never push out the key of a mint under way.
  const own = createKeyCache(ownKeysMost);
  const opened = createKeyCache(openedKeysMost);

  async function newKey(signal?: AbortSignal): Promise<WrappedKey> {
    const dataKey = random.bytes(keyBytes);
    try {
      const wrapped = await keys.current.wrap(dataKey, signal);
      const key: WrappedKey = { kek: keys.current.id, wrapped };
      own.set(nameOf(key), dataKey);
      return key;
    } finally {
      dataKey.fill(0);
    }
  }

  async function dataKeyOf(key: WrappedKey, what: string, signal?: AbortSignal): Promise<Buffer> {
    const name = nameOf(key);
    const held = own.get(name) ?? opened.get(name);
    if (held !== undefined) return held;
    const kek = byId.get(key.kek);
    if (kek === undefined) {
      throw new RotatedError(
        'key-unknown',
        `${what} is sealed under key ${key.kek}, which is not at hand.`,
        {
          next: `Add the key with id ${key.kek} back to the key file, as an older line.`,
        },
      );
    }
    const dataKey = Buffer.from(await kek.unwrap(key.wrapped, signal));
    opened.set(name, dataKey);
    return dataKey;
  }

  return {
    newKey,
    async seal(fields, context, key, signal) {
      const wrapped = key ?? (await newKey(signal));
      const dataKey = await dataKeyOf(wrapped, place(context), signal);
      const plain = Buffer.from(canonicalJson(revealAll(fields)));
      try {
        const iv = random.bytes(ivBytes);
        const cipher = createCipheriv('aes-256-gcm', createSecretKey(dataKey), iv);
        cipher.setAAD(aadOf(context));
        const data = Buffer.concat([cipher.update(plain), cipher.final()]).toString('base64');
        const tag = cipher.getAuthTag().toString('base64');
        return { v: 1, key: wrapped, iv: iv.toString('base64'), tag, data };
      } finally {
        plain.fill(0);
        dataKey.fill(0);
      }
    },
    async open(sealed, context, signal) {
      let dataKey: Buffer;
      try {
        dataKey = await dataKeyOf(sealed.key, place(context), signal);
      } catch (error) {
        throw isRotatedError(error, 'seal-broken') ? broken(context) : error;
      }
      try {
        return fieldsOf(decrypt(sealed, context, dataKey));
      } finally {
        dataKey.fill(0);
      }
    },
  };
}

function decrypt(sealed: Sealed, context: SealContext, dataKey: Buffer): Buffer {
  try {
    const iv = Buffer.from(sealed.iv, 'base64');
    // A key object: given bytes, Node 24 takes 50 µs to find out that they are none.
    const key = createSecretKey(dataKey);
    const decipher = createDecipheriv('aes-256-gcm', key, iv, { authTagLength: tagBytes })
      .setAAD(aadOf(context))
      .setAuthTag(Buffer.from(sealed.tag, 'base64'));
    const plain = decipher.update(Buffer.from(sealed.data, 'base64'));
    return Buffer.concat([plain, decipher.final()]);
  } catch {
    throw broken(context);
  }
}

function fieldsOf(plain: Buffer): Fields {
  try {
    const values = JSON.parse(plain.toString()) as Record<string, string>;
    return Object.fromEntries(
      Object.entries(values).map(([name, value]) => [name, new Secret(value)]),
    );
  } finally {
    plain.fill(0);
  }
}

function revealAll(fields: Fields): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, value.reveal()]));
}

/** The key-encryption key is left out, so that data keys can be wrapped anew without opening the records. */
function aadOf({ secret, rotation, purpose }: SealContext): Buffer {
  return Buffer.from(canonicalJson(['rotated seal', 1, secret, rotation, purpose]));
}

function broken(context: SealContext): RotatedError {
  return new RotatedError(
    'seal-broken',
    `${place(context)} does not open: damaged, or moved from another record.`,
    {
      secret: context.secret,
      next: 'Restore the state directory from a backup, or run `rotate run` for a fresh credential.',
    },
  );
}

function place(context: SealContext): string {
  return `The ${context.purpose} of ${context.secret}`;
}

function nameOf(key: WrappedKey): string {
  return `${key.kek} ${key.wrapped}`;
}
