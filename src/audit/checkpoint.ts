/** Signed statements of where the audit log stood: kept outside, they show a log that was rewritten as a whole. */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  verify,
} from 'node:crypto';
import type { AuditHead, AuditLine } from '../journal/journal.ts';
import { RotatedError } from '../errors.ts';
import { canonicalJson } from '../secret/canonical.ts';
import type { AuditProblem } from './chain.ts';

export interface Checkpoint {
  readonly v: 1;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly seq: number;
  readonly mac: string;
  /** Id of the public key: the first 16 hex digits of its SHA-256. */
  readonly key: string;
  /** Ed25519 over the canonical JSON of the other members, base64url. */
  readonly signature: string;
}

export interface CheckpointKey {
  readonly id: string;
  /** PEM: hand it to whoever verifies, out of this machine's reach. */
  readonly publicKey: string;
  sign(head: Pick<AuditHead, 'seq' | 'mac'>, at: number): Checkpoint;
}

/** RFC 8410: what stands before the 32 bytes of an Ed25519 private key in PKCS #8. */
const pkcs8Prefix = Buffer.from('302e020100300506032b657004220420', 'hex');

/** `seed`: 32 bytes derived for checkpoints alone. */
export function checkpointKey(seed: Uint8Array): CheckpointKey {
  const der = Buffer.concat([pkcs8Prefix, seed]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  der.fill(0);
  const publicKey = createPublicKey(privateKey);
  const id = idOf(publicKey);
  return {
    id,
    publicKey: publicKey.export({ type: 'spki', format: 'pem' }) as string,
    sign({ seq, mac }, at) {
      const body = { v: 1, at, seq, mac, key: id } as const;
      return { ...body, signature: sign(null, bytesOf(body), privateKey).toString('base64url') };
    },
  };
}

/**
 * Holds the lines against the checkpoints; needs no key of the deployment but the public one (PEM). null where every
 * checkpoint is genuine and the log still holds the line it names.
 */
export async function verifyCheckpoints(
  lines: AsyncIterable<AuditLine> | Iterable<AuditLine>,
  checkpoints: Iterable<Checkpoint>,
  publicKey: string,
): Promise<AuditProblem | null> {
  const key = parsePublicKey(publicKey);
  const expected = new Map<number, string>();
  for (const checkpoint of checkpoints) {
    const { seq, mac } = checkpoint;
    const known = expected.get(seq);
    if (!isGenuine(checkpoint, key) || (known !== undefined && known !== mac)) {
      const message = `The checkpoint for line ${seq} was not signed by this deployment, or contradicts another.`;
      return { kind: 'head', seq, message };
    }
    expected.set(seq, mac);
  }
  let last = 0;
  for await (const { seq, mac } of lines) {
    last = Math.max(last, seq);
    const signed = expected.get(seq);
    if (signed !== undefined && signed !== mac) {
      const message = `The audit log was rewritten at or before line ${seq}: the signed checkpoint names another line.`;
      return { kind: 'edited', seq, message };
    }
    expected.delete(seq);
  }
  if (expected.size === 0) return null;
  const seq = Math.min(...expected.keys());
  const message = `The audit log lacks line ${seq}, which a signed checkpoint names; it ends at line ${last}.`;
  return { kind: seq > last ? 'cut' : 'removed', seq, message };
}

/** Signed by the key whose public half this is (PEM), and not changed since. */
export function isGenuineCheckpoint(checkpoint: Checkpoint, publicKey: string): boolean {
  return isGenuine(checkpoint, parsePublicKey(publicKey));
}

export function isCheckpoint(value: unknown): value is Checkpoint {
  if (typeof value !== 'object' || value === null) return false;
  const { v, at, seq, mac, key, signature } = value as Record<string, unknown>;
  return (
    v === 1 &&
    [at, seq].every((member) => typeof member === 'number') &&
    [mac, key, signature].every((member) => typeof member === 'string')
  );
}

function isGenuine({ signature, ...body }: Checkpoint, key: KeyObject): boolean {
  return verify(null, bytesOf(body), key, Buffer.from(signature, 'base64url'));
}

function bytesOf(body: Omit<Checkpoint, 'signature'>): Buffer {
  return Buffer.from(`rotated audit checkpoint\n${canonicalJson(body)}`);
}

function idOf(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(der).digest('hex').slice(0, 16);
}

function parsePublicKey(pem: string): KeyObject {
  try {
    return createPublicKey(pem);
  } catch {
    throw new RotatedError('usage', 'The public key of the checkpoints is not a PEM key.', {
      next: 'Give the file that holds the public key, beginning with -----BEGIN PUBLIC KEY-----.',
    });
  }
}
