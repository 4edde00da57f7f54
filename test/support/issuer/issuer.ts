/** What the test issuer does with a call: mints, refuses, lags and lies as its principal's settings say. */
import { randomBytes } from 'node:crypto';
import type { Fault, Operation, PrincipalSettings } from './settings.ts';
import { faultAt } from './settings.ts';
import { hashOf, type IssuerStore, type KeyRow, type LateMint } from './store.ts';

/** `cut` and `hang` are answers too: the connection is ended, or never used again. */
export type Answer =
  | {
      readonly kind: 'answer';
      readonly status: number;
      readonly body?: unknown;
      readonly text?: string;
    }
  | { readonly kind: 'cut' }
  | { readonly kind: 'hang' };

export interface MintBody {
  readonly name?: string | undefined;
  readonly token?: string | undefined;
  /** Class chosen: the client's own id and value. */
  readonly ref?: string | undefined;
  readonly value?: string | undefined;
  readonly scopes?: readonly string[] | undefined;
  readonly expiresAt?: number | undefined;
}

export interface Call {
  readonly principal: string;
  readonly operation: Operation;
  readonly adminKey: string | null;
  readonly ref?: string;
  readonly value?: string;
  readonly mint?: MintBody;
}

/** The truth about one key, whatever the issuer would say in public. */
export interface KeyTruth {
  readonly ref: string;
  readonly name: string | null;
  readonly hash: string;
  /** Exists and would be accepted now or once it has propagated: a key that somebody must answer for. */
  readonly live: boolean;
  /** Would be accepted if used at this instant. */
  readonly accepted: boolean;
  readonly enabled: boolean;
  readonly scopes: readonly string[];
  readonly owner: string;
  readonly createdAt: number;
  readonly expiresAt: number | null;
  readonly lastUsedAt: number | null;
  readonly revokedAt: number | null;
}

const ok = (body: unknown): Answer => ({ kind: 'answer', status: 200, body });
const refuse = (status: number, code: string): Answer => ({
  kind: 'answer',
  status,
  body: { code },
});

export interface Issuer {
  handle(call: Call): Answer;
  keys(principal: string): readonly KeyTruth[];
  probe(principal: string, value: string): KeyTruth | null;
  /** Ends the wait of every mint on its way: what would land some day lands now. */
  land(principal: string): number;
}

export function createIssuer(store: IssuerStore, now: () => number): Issuer {
  function handle(call: Call): Answer {
    return store.transact(() => {
      const { principal, operation } = call;
      const settings = store.settings(principal);
      const calls = store.countCall(principal);
      for (const late of store.late(principal)) {
        const due =
          (late.dueCalls !== null && late.dueCalls <= calls) ||
          (late.dueAt !== null && late.dueAt <= now());
        if (due) landOne(late, settings);
      }
      const fault = faultAt(settings.faults, operation, store.countOperation(principal, operation));
      if (operation !== 'use' && operation !== 'verify' && settings.adminKey !== null) {
        if (call.adminKey !== settings.adminKey) return refuse(401, 'bad-admin');
      }
      return struck(call, settings, fault, calls);
    });
  }

  function struck(
    call: Call,
    settings: PrincipalSettings,
    fault: Fault | undefined,
    calls: number,
  ): Answer {
    if (fault === undefined) return perform(call, settings, undefined);
    log(call.principal, `fault-${fault.kind}`, call.ref ?? null, { operation: call.operation });
    switch (fault.kind) {
      case 'error':
        if (fault.committed === true) perform(call, settings, undefined);
        return refuse(fault.status, 'injected');
      case 'lost':
        perform(call, settings, undefined);
        return { kind: 'cut' };
      case 'hang':
        if (fault.committed === true) perform(call, settings, undefined);
        return { kind: 'hang' };
      case 'late':
        store.postpone({
          principal: call.principal,
          request: JSON.stringify(call.mint ?? {}),
          dueCalls: 'calls' in fault ? calls + 1 + fault.calls : null,
          dueAt: 'ms' in fault ? now() + fault.ms : null,
        });
        return { kind: 'cut' };
      case 'duplicate':
        perform(call, settings, undefined);
        return perform(call, settings, undefined);
      case 'garbage':
        perform(call, settings, undefined);
        return { kind: 'answer', status: 200, text: fault.body };
      case 'lie':
      case 'rights':
      case 'short-lived':
        return perform(call, settings, fault);
      default:
        return fault satisfies never;
    }
  }

  function perform(call: Call, settings: PrincipalSettings, fault: Fault | undefined): Answer {
    const { principal } = call;
    const ref = call.ref ?? '';
    switch (call.operation) {
      case 'check':
        return ok({ ok: true });
      case 'mint':
        return mint(principal, call.mint ?? {}, settings, fault);
      case 'list':
        return settings.crashClass === 'blind' ? refuse(405, 'no-list') : list(principal, settings);
      case 'resolve': {
        if (!settings.resolve) return refuse(405, 'no-resolve');
        const found = store.keyByValue(principal, call.value ?? '');
        return ok({ ref: found !== null && isLive(principal, found) ? found.ref : null });
      }
      case 'disable':
      case 'enable':
        return settings.disable
          ? able(principal, ref, call.operation === 'enable')
          : refuse(405, 'no-disable');
      case 'revoke':
        return revoke(principal, ref, fault?.kind === 'lie' ? fault.calls : null);
      case 'use':
      case 'verify':
        return use(principal, call.value ?? '', call.operation);
      default:
        return call.operation satisfies never;
    }
  }

  function mint(
    principal: string,
    asked: MintBody,
    settings: PrincipalSettings,
    fault: Fault | undefined,
  ): Answer {
    const { crashClass } = settings;
    if (crashClass === 'token') {
      const before = asked.token === undefined ? null : store.keyByToken(principal, asked.token);
      if (before !== null) return repeated(principal, before);
    }
    if (crashClass === 'chosen') {
      if (asked.ref === undefined || asked.value === undefined) return refuse(400, 'no-material');
      const before = store.key(principal, asked.ref);
      if (before !== null) {
        if (before.hash !== hashOf(asked.value)) return refuse(409, 'ref-taken');
        return repeated(principal, before);
      }
    }
    const living = store.keys(principal).filter((row) => isLive(principal, row)).length;
    if (settings.liveMax !== null && living >= settings.liveMax) {
      log(principal, 'limit', null, { living });
      return refuse(409, 'limit-reached');
    }
    const at = now();
    const ref = asked.ref ?? `key-${randomBytes(6).toString('hex')}`;
    const value = asked.value ?? settings.valuePrefix + randomBytes(24).toString('base64url');
    const lifetimeMs = fault?.kind === 'short-lived' ? fault.lifetimeMs : settings.lifetimeMs;
    const asWished = fault?.kind === 'short-lived' ? undefined : asked.expiresAt;
    const row: KeyRow = {
      ref,
      name: settings.tag ? (asked.name ?? null) : null,
      hash: hashOf(value),
      value: crashClass === 'token' ? value : null,
      token: crashClass === 'token' ? (asked.token ?? null) : null,
      scopes: fault?.kind === 'rights' ? fault.scopes : (asked.scopes ?? settings.scopes),
      owner: settings.owner,
      createdAt: at,
      expiresAt: asWished ?? (lifetimeMs === null ? null : at + lifetimeMs),
      lastUsedAt: null,
      enabled: true,
      revokedAt: null,
      dyingUntilCalls: 0,
      hiddenUses: settings.lag.uses,
      hiddenLists: settings.lag.lists,
      hiddenUntil: at + settings.lag.ms,
    };
    store.save(principal, row);
    log(principal, 'mint', ref, { hash: row.hash, name: row.name, scopes: row.scopes });
    return ok(publicView(row, value));
  }

  function repeated(principal: string, row: KeyRow): Answer {
    if (!isLive(principal, row)) return refuse(409, 'already-revoked');
    log(principal, 'mint-repeated', row.ref, {});
    return ok(publicView(row, row.value ?? undefined));
  }

  function publicView(row: KeyRow, value: string | undefined) {
    const { ref, scopes, owner, expiresAt } = row;
    return { ref, value, scopes, owner, expiresAt };
  }

  function list(principal: string, settings: PrincipalSettings): Answer {
    const shown: unknown[] = [];
    for (const row of store.keys(principal)) {
      if (!isLive(principal, row)) continue;
      if (row.hiddenLists > 0) {
        store.save(principal, { ...row, hiddenLists: row.hiddenLists - 1 });
        continue;
      }
      if (row.hiddenUntil > now()) continue;
      const { ref, name, createdAt, expiresAt, scopes, owner, enabled } = row;
      const lastUsedAt = settings.lastUsed ? row.lastUsedAt : null;
      shown.push({ ref, name, createdAt, expiresAt, lastUsedAt, scopes, owner, enabled });
    }
    log(principal, 'list', null, { shown: shown.length });
    return ok({ keys: shown });
  }

  function able(principal: string, ref: string, enabled: boolean): Answer {
    const row = store.key(principal, ref);
    if (row === null || !isLive(principal, row)) return refuse(404, 'no-such-key');
    store.save(principal, { ...row, enabled });
    log(principal, enabled ? 'enable' : 'disable', ref, { hash: row.hash });
    return ok({});
  }

  function revoke(principal: string, ref: string, lieCalls: number | null): Answer {
    const row = store.key(principal, ref);
    if (row === null || row.revokedAt !== null) {
      // A revoke repeated after a lie is honest.
      if (row !== null) store.save(principal, { ...row, dyingUntilCalls: 0 });
      log(principal, 'revoke-again', ref, {});
      return refuse(404, 'no-such-key');
    }
    const dead = { ...row, revokedAt: now() };
    const undead = {
      ...dead,
      enabled: true,
      dyingUntilCalls: store.calls(principal) + 1 + (lieCalls ?? 0),
    };
    store.save(principal, lieCalls === null ? dead : undead);
    log(principal, 'revoke', ref, { hash: row.hash, lie: lieCalls !== null });
    return ok({});
  }

  function use(principal: string, value: string, kind: 'use' | 'verify'): Answer {
    const row = store.keyByValue(principal, value);
    if (row === null || !isAccepted(principal, row)) {
      if (row !== null && row.hiddenUses > 0) {
        store.save(principal, { ...row, hiddenUses: row.hiddenUses - 1 });
      }
      log(principal, `${kind}-refused`, row?.ref ?? null, { hash: hashOf(value) });
      return refuse(401, 'refused');
    }
    store.save(principal, {
      ...row,
      lastUsedAt: now(),
    });
    log(principal, kind, row.ref, { hash: row.hash });
    return ok(publicView(row, undefined));
  }

  function isLive(principal: string, row: KeyRow): boolean {
    const expired = row.expiresAt !== null && row.expiresAt <= now();
    return !expired && (row.revokedAt === null || row.dyingUntilCalls > store.calls(principal));
  }

  function isAccepted(principal: string, row: KeyRow): boolean {
    return (
      isLive(principal, row) && row.enabled && row.hiddenUses === 0 && row.hiddenUntil <= now()
    );
  }

  function landOne(late: LateMint, settings: PrincipalSettings): void {
    store.landed(late.id);
    const body = JSON.parse(late.request) as MintBody;
    log(late.principal, 'late-landing', body.ref ?? null, { name: body.name ?? null });
    mint(late.principal, body, settings, undefined);
  }

  function log(
    principal: string,
    kind: string,
    ref: string | null,
    detail: Readonly<Record<string, unknown>>,
  ): void {
    store.log({ at: now(), principal, kind, ref, detail });
  }

  function truthOf(principal: string, row: KeyRow): KeyTruth {
    const { ref, name, hash, enabled, scopes, owner } = row;
    const { createdAt, expiresAt, lastUsedAt, revokedAt } = row;
    const [live, accepted] = [isLive(principal, row), isAccepted(principal, row)];
    const known = { ref, name, hash, live, accepted, enabled, scopes, owner };
    return { ...known, createdAt, expiresAt, lastUsedAt, revokedAt };
  }

  return {
    handle,
    keys: (principal) => store.keys(principal).map((row) => truthOf(principal, row)),
    probe: (principal, value) => {
      const row = store.keyByValue(principal, value);
      return row === null ? null : truthOf(principal, row);
    },
    land: (principal) =>
      store.transact(() => {
        const waiting = store.late(principal);
        for (const late of waiting) landOne(late, store.settings(principal));
        return waiting.length;
      }),
  };
}
