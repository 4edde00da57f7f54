/** Who may have what: which references which command of which server was granted, and by whom. */
import path from 'node:path';
import type { Clock } from '../clock.ts';
import { RotatedError } from '../errors.ts';
import { commandHash, isServerName } from '../gate/feed/identity.ts';
import type { Asker } from '../gate/feed/protocol.ts';
import type { Actor, AuditEvent, GrantRow, Journal } from '../journal/journal.ts';
import type { Policy } from '../policy/policy.ts';
import type { Ask } from '../rotation/service.ts';
import { covers, type Meaning, type ReferenceIndex } from './references.ts';
import type { GrantService, GrantView, RefusalView } from './service.ts';

export interface Grants extends GrantService {
  /** What the asker's references mean, all granted. Throws `not-granted`: notes the refusal, for a person to look at. */
  check(asker: Asker): Promise<readonly Meaning[]>;
  /** Servers that were granted something of this policy, so that they hear of its rotations. */
  serversOf(policy: Policy): readonly string[];
  /** Reads again what the journal holds. */
  load(): Promise<void>;
  /** As owner of the state, from now on: writes are made under this fence. */
  own(fence: number): void;
}

export interface GrantOptions {
  readonly journal: Pick<Journal, 'grants' | 'commit'>;
  readonly clock: Clock;
  readonly index: () => ReferenceIndex;
  /** The account that serves the feed: every shim runs under it. */
  readonly account: Actor;
  /** Called after a change, for the servers that wait for it. */
  readonly onAllowed: (server: string) => void;
}

/** What the journal keeps of a grant. */
interface GrantData {
  readonly references: readonly string[];
  readonly program: string | null;
  readonly at: number;
  readonly by: string;
}

/** Refusals kept for people to look at; beyond it the oldest are forgotten. */
const refusalsMost = 200;
/** Refusals in the audit trail, each once: a server that asks in a loop must not fill it. */
const refusalLinesMost = 1_000;

export function createGrants(options: GrantOptions): Grants {
  const { journal, clock, index } = options;
  let rows: readonly GrantRow[] = [];
  let fence: number | null = null;
  const refusals = new Map<string, RefusalView>();
  /** By server and hash: forgotten when its grants change, so that a refusal after it is a line again. */
  const noted = new Map<string, Set<string>>();
  let lines = 0;
  let known: {
    readonly rows: readonly GrantRow[];
    readonly index: ReferenceIndex;
    readonly servers: ReadonlyMap<string, ReadonlySet<string>>;
  } | null = null;

  async function load(): Promise<void> {
    rows = await journal.grants();
  }

  /** Secret → servers; asked for each policy there is, so it is worked out once for each change. */
  function servers(): ReadonlyMap<string, ReadonlySet<string>> {
    const now = index();
    if (known !== null && known.rows === rows && known.index === now) return known.servers;
    const servers = new Map<string, Set<string>>();
    for (const row of rows) {
      for (const { secrets } of dataOf(row).references.map((text) => now.meaningOf(text))) {
        for (const { name } of secrets) {
          servers.set(name, (servers.get(name) ?? new Set()).add(row.server));
        }
      }
    }
    known = { rows, index: now, servers };
    return servers;
  }

  function owned(): number {
    if (fence !== null) return fence;
    throw new RotatedError('unexpected', 'A grant was changed by a process that only looks.');
  }

  function refuse(asker: Asker, wanted: readonly Meaning[]): RotatedError {
    const { server, hash } = asker;
    const references = wanted.map(({ reference }) => reference);
    const admin = wanted.find(({ isAdmin }) => isAdmin);
    const key = JSON.stringify([server, hash]);
    const grantable = wanted.filter(({ isAdmin }) => !isAdmin).map(({ reference }) => reference);
    if (grantable.length > 0) {
      // The newest last.
      refusals.delete(key);
      const at = clock.now();
      refusals.set(key, { server, hash, what: asker.what, references: grantable, at });
    }
    for (const oldest of refusals.keys()) {
      if (refusals.size <= refusalsMost) break;
      refusals.delete(oldest);
    }
    void note(key, asker, references);
    if (admin !== undefined) {
      return new RotatedError(
        'not-granted',
        `${admin.reference} is a credential that rotated itself works with: it is never handed to a server.`,
        { next: `Take it out of the entry of ${server}, or name another item.` },
      );
    }
    const same = rows.some((row) => row.server === server);
    return new RotatedError(
      'not-granted',
      `${server} was not granted ${references.join(', ')}${same ? ' for this command' : ''}.`,
      { next: `Look at what it would run, then grant it: rotate allow ${server}` },
    );
  }

  /** Once each; a refusal must not fail for want of its line. */
  async function note(key: string, { server, hash }: Asker, references: readonly string[]) {
    const seen = noted.get(key) ?? new Set();
    const what = references.join(' ');
    if (fence === null || seen.has(what) || lines >= refusalLinesMost) return;
    noted.set(key, seen.add(what));
    lines += 1;
    const ask = { actor: options.account, reason: null };
    const line = auditLine(clock.now(), ask, 'grant.refused', 'refused', server, hash, references);
    await journal.commit({ fence, audit: [line] }).catch(() => {
      seen.delete(what);
    });
  }

  function viewsOfPolicies(): GrantView[] {
    return [...index().policies.values()].flatMap((policy) =>
      policy.consumers.flatMap((one) => {
        if (one.kind !== 'gate' || one.command === null) return [];
        return {
          server: one.server,
          hash: commandHash(one.command, policy.directory),
          program: path.basename(one.command[0]),
          references: [`${policy.backend.scheme}://${policy.backend.item}`],
          at: null,
          by: `policy ${policy.name}`,
          policy: policy.name,
        };
      }),
    );
  }

  return {
    load,
    own(given) {
      fence = given;
    },
    async check(asker) {
      const meanings = asker.references.map((text) => index().meaningOf(text));
      await load();
      const granted = rows
        .filter(({ server, hash }) => server === asker.server && hash === asker.hash)
        .flatMap((row) => dataOf(row).references);
      const missing = meanings.filter(
        (meaning) =>
          meaning.isAdmin ||
          !(
            granted.some((one) => covers(one, meaning)) ||
            meaning.secrets.some((policy) => isStated(policy, asker, meaning))
          ),
      );
      if (missing.length > 0) throw refuse(asker, missing);
      refusals.delete(JSON.stringify([asker.server, asker.hash]));
      return meanings;
    },
    serversOf: ({ name }) => [...(servers().get(name) ?? [])],
    async grants() {
      await load();
      const grants = [...rows.map(viewOf), ...viewsOfPolicies()];
      return { grants, refused: [...refusals.values()].reverse() };
    },
    async allow(asked, ask) {
      const { server, hash, program } = asked;
      if (!isServerName(server) || !/^[\w-]{43}$/.test(hash) || asked.references.length === 0) {
        throw new RotatedError('usage', 'A grant names a server, its command and references.', {
          next: 'rotate allow --help',
        });
      }
      const meanings = asked.references.map((text) => index().meaningOf(text));
      const admin = meanings.find(({ isAdmin }) => isAdmin);
      if (admin !== undefined) {
        throw new RotatedError(
          'refused',
          `${admin.reference} is a credential that rotated itself works with: it is never handed to a server.`,
          { next: 'Name the item that the server itself uses.' },
        );
      }
      await load();
      const before = rows.find((row) => row.server === server && row.hash === hash);
      const data = {
        references: [
          ...new Set([
            ...(before === undefined ? [] : dataOf(before).references),
            ...meanings.map(({ reference }) => reference),
          ]),
        ],
        program: program ?? (before === undefined ? null : dataOf(before).program),
        at: clock.now(),
        by: ask.actor.id,
      };
      const row = { server, hash, data };
      const line = auditLine(data.at, ask, 'grant.allowed', 'done', server, hash, data.references);
      await journal.commit({ fence: owned(), grants: [row], audit: [line] });
      await load();
      refusals.delete(JSON.stringify([server, hash]));
      noted.delete(JSON.stringify([server, hash]));
      options.onAllowed(server);
      return viewOf(row);
    },
    async disallow(server, hash, ask) {
      await load();
      const ended = rows.filter(
        (row) => row.server === server && (hash === null || row.hash === hash),
      );
      if (ended.length === 0) return 0;
      await journal.commit({
        fence: owned(),
        removeGrants: ended,
        audit: ended.map((row) =>
          auditLine(
            clock.now(),
            ask,
            'grant.revoked',
            'done',
            server,
            row.hash,
            dataOf(row).references,
          ),
        ),
      });
      for (const row of ended) noted.delete(JSON.stringify([server, row.hash]));
      await load();
      return ended.length;
    },
  };
}

function isStated(policy: Policy, { server, hash }: Asker, { secrets }: Meaning): boolean {
  // The whole of an item that others write, too, is not this policy's to give.
  if (secrets.length !== 1) return false;
  return policy.consumers.some(
    (one) =>
      one.kind === 'gate' &&
      one.server === server &&
      one.command !== null &&
      commandHash(one.command, policy.directory) === hash,
  );
}

function viewOf(row: GrantRow): GrantView {
  return { server: row.server, hash: row.hash, policy: null, ...dataOf(row) };
}

function dataOf({ data }: GrantRow): GrantData {
  return data as unknown as GrantData;
}

function auditLine(
  at: number,
  { actor, reason }: Ask,
  action: string,
  outcome: AuditEvent['outcome'],
  server: string,
  hash: string,
  references: readonly string[],
): AuditEvent {
  const detail = { server, hash, references };
  return { at, actor, action, secret: null, rotation: null, reason, outcome, detail };
}
