/** What the machine made durable, as it says so in the log: one line for each audit line, by the same name. */
import type { AuditEvent } from '../journal/journal.ts';
import type { Log } from './ports.ts';

/** A first start with ten thousand policies is one line. */
const linesMost = 50;

interface Written {
  readonly audit?: readonly AuditEvent[];
  readonly rotations?: readonly Failing[];
  readonly debts?: readonly (Failing & { readonly rotation: string })[];
}

interface Failing {
  readonly id: string;
  readonly data: { readonly lastError: { readonly message: string } | null };
}

export function logWritten(log: Log, { audit = [], rotations = [], debts = [] }: Written): void {
  const [first] = audit;
  if (first === undefined) return;
  if (audit.length > linesMost) {
    log.info({ lines: audit.length, first: first.action }, 'many audit lines at once');
    return;
  }
  for (const event of audit) {
    const { action, actor, detail, outcome, reason, rotation, secret } = event;
    const hasFailed = outcome === 'failed' || outcome === 'refused';
    const error = hasFailed
      ? (debts.find((one) => one.rotation === rotation) ??
        rotations.find((one) => one.id === rotation))
      : undefined;
    const fields = {
      ...(secret !== null && { secret }),
      ...(rotation !== null && { rotation }),
      ...detail,
      ...(error?.data.lastError != null && { error: error.data.lastError.message }),
      by: actor.id,
      ...(reason !== null && { reason }),
    };
    if (hasFailed) log.warn(fields, action);
    else log.info(fields, action);
  }
}
