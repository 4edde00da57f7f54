/** A provider by somebody who never thought of leaks: its errors, refs, reasons and findings hold the values. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { RotatedError } from '../../src/errors.ts';
import { defineProvider, Secret } from '../../src/provider/provider.ts';

export default defineProvider<{ side: string }>({
  apiVersion: 1,
  id: 'nasty',
  options: z.strictObject({ side: z.string() }),
  traits: () => ({
    strategy: 'overlap',
    crashClass: 'token',
    limits: { liveMax: Infinity, lifetimeSecondsMax: Infinity, settleSeconds: 0 },
    revokeScope: 'key',
    capabilities: {
      list: false,
      disable: false,
      lastUsed: false,
      tag: false,
      idempotent: true,
      resolve: false,
      proof: 'safe',
    },
    leastPrivilege: 'none',
  }),
  open: async ({ side }, context) => {
    let mints = 0;
    let verifies = 0;
    let revokes = 0;
    const dead = new Set<string>();
    const values = JSON.parse(readFileSync(path.join(side, 'values.json'), 'utf8')) as Readonly<
      Record<string, string>
    >;
    const fresh = values['minted by the nasty provider'] ?? '';
    const refused = async (signal: AbortSignal, effect: 'none' | 'unknown', nth: number) => {
      const key = (await context.admin(signal))['key']?.reveal() ?? '';
      const own = { config: { headers: { authorization: `Bearer ${key}` } }, data: fresh };
      const text = `POST /keys with ${key} answered ${JSON.stringify({ key: fresh })}`;
      const foreign = Object.assign(new Error(text, { cause: new Error(fresh) }), own);
      if (nth === 1) return foreign;
      if (nth === 2) return Object.assign(foreign, { name: fresh, code: fresh });
      if (nth === 3) return new DOMException(fresh, 'DataError');
      return new RotatedError('unavailable', `refused: ${key}`, {
        effect,
        next: `curl -H 'Authorization: Bearer ${encodeURIComponent(key)}'`,
        cause: foreign,
      });
    };
    return {
      check: async (signal) => {
        const key = (await context.admin(signal))['key']?.reveal() ?? '';
        return [{ name: 'nasty', level: 'amber', message: key, why: key, mend: key, place: key }];
      },
      mint: async ({ generation }, signal) => {
        mints++;
        if (mints <= 4) throw await refused(signal, 'unknown', mints);
        if (mints === 5) return { ref: fresh, fields: { value: new Secret(fresh) } };
        return { ref: `nasty-${generation}`, fields: { value: new Secret(fresh) } };
      },
      verify: async ({ ref, fields }, signal) => {
        verifies++;
        if (verifies === 1) throw await refused(signal, 'none', 1);
        if (verifies === 2) throw await refused(signal, 'none', 4);
        return ref !== null && dead.has(ref)
          ? { ok: false, kind: 'rejected', reason: `${fields['value']?.reveal()} is gone` }
          : { ok: true, identity: 'someone' };
      },
      revoke: async (ref, signal) => {
        revokes++;
        if (revokes <= 3) throw await refused(signal, 'unknown', revokes);
        dead.add(ref);
      },
      [Symbol.asyncDispose]: async () => {},
    };
  },
});
