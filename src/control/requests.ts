/** What may be asked on the control socket, checked, and how each request becomes one call of the service. */
import { z } from 'zod';
import { RotatedError } from '../errors.ts';
import type { Actor } from '../journal/journal.ts';
import type { WholeService } from '../hub/service.ts';
import type { Ask } from '../rotation/service.ts';
import { fieldsFromWire, fieldsToWire, type WireAsk } from './protocol.ts';

const name = z.string().min(1).max(512);
const names = z.array(name).max(100_000);
const selector = z.strictObject({
  names,
  tags: names,
  providers: names,
  consumers: names,
  all: z.boolean(),
});
const ask = z.strictObject({
  reason: z.string().max(4_096).nullable(),
  as: z.string().max(128).nullable(),
});
const mode = z.enum(['continuity', 'contain']).nullable();
const count = z.int().min(0).max(1_000_000);
const id = z.int().min(0);
const one = z.strictObject({ secret: name, ask });

const request = z.discriminatedUnion('method', [
  z.strictObject({ id, method: z.literal('status'), params: z.strictObject({ selector }) }),
  z.strictObject({ id, method: z.literal('plan'), params: z.strictObject({ selector, mode }) }),
  z.strictObject({ id, method: z.literal('run'), params: z.strictObject({ selector, ask }) }),
  z.strictObject({ id, method: z.literal('now'), params: z.strictObject({ selector, mode, ask }) }),
  z.strictObject({ id, method: z.literal('rollback'), params: one }),
  z.strictObject({ id, method: z.literal('abandon'), params: one }),
  z.strictObject({ id, method: z.literal('pause'), params: one }),
  z.strictObject({ id, method: z.literal('resume'), params: one }),
  z.strictObject({ id, method: z.literal('restore'), params: one }),
  z.strictObject({
    id,
    method: z.literal('supply'),
    params: z.strictObject({ secret: name, fields: z.record(name, z.string()), ask }),
  }),
  z.strictObject({
    id,
    method: z.literal('keep'),
    params: z.strictObject({
      item: name,
      fields: z.record(name, z.string()),
      look: z.boolean(),
      ask,
    }),
  }),
  z.strictObject({
    id,
    method: z.literal('confirm'),
    params: z.strictObject({ secret: name, debt: name.nullable(), ask }),
  }),
  z.strictObject({
    id,
    method: z.literal('read'),
    params: z.strictObject({
      secret: name,
      stage: z.enum(['current', 'pending', 'previous']),
      ask,
    }),
  }),
  z.strictObject({
    id,
    method: z.literal('history'),
    params: z.strictObject({ secret: name.nullable(), most: count }),
  }),
  z.strictObject({ id, method: z.literal('rotation'), params: z.strictObject({ id: name }) }),
  z.strictObject({
    id,
    method: z.literal('audit'),
    params: z.strictObject({ secret: name.nullable(), from: z.int(), most: count }),
  }),
  z.strictObject({ id, method: z.literal('auditVerify'), params: z.strictObject({}) }),
  z.strictObject({ id, method: z.literal('grants'), params: z.strictObject({}) }),
  z.strictObject({
    id,
    method: z.literal('allow'),
    params: z.strictObject({
      asked: z.strictObject({
        server: name,
        hash: name,
        program: name.nullable(),
        references: z.array(z.string().max(2_048)).max(64),
      }),
      ask,
    }),
  }),
  z.strictObject({
    id,
    method: z.literal('disallow'),
    params: z.strictObject({ server: name, hash: name.nullable(), ask }),
  }),
  z.strictObject({
    id,
    method: z.literal('watch'),
    params: z.strictObject({ rotations: names, patienceMs: z.number().min(0) }),
  }),
]);

export type Request = z.infer<typeof request>;
export type WatchRequest = Extract<Request, { method: 'watch' }>;
export type CallRequest = Exclude<Request, WatchRequest>;

const cancel = z.strictObject({ id, cancel: z.literal(true) });

export type Incoming =
  | { readonly kind: 'request'; readonly request: Request }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'broken'; readonly id: number | null; readonly error: RotatedError };

/** Never echoes what it could not read: a broken `supply` holds a value. */
export function parseIncoming(line: string): Incoming {
  let message: unknown;
  try {
    message = JSON.parse(line);
  } catch {
    return broken(null, 'The message is not JSON.');
  }
  const ended = cancel.safeParse(message);
  if (ended.success) return { kind: 'cancel', id: ended.data.id };
  const parsed = request.safeParse(message);
  if (parsed.success) return { kind: 'request', request: parsed.data };
  const given = (message as { id?: unknown } | null)?.id;
  const places = parsed.error.issues.map((issue) => issue.path.join('.')).filter(Boolean);
  return broken(
    typeof given === 'number' ? given : null,
    `The request is not one this version knows (${places.slice(0, 5).join(', ') || 'shape'}).`,
  );
}

/** One call; what it returns goes into JSON as it is. */
export async function callService(
  service: WholeService,
  call: CallRequest,
  actorOf: (ask: WireAsk) => Actor,
): Promise<unknown> {
  const asked = (wire: WireAsk): Ask => ({ actor: actorOf(wire), reason: wire.reason });
  switch (call.method) {
    case 'status':
      return service.status(call.params.selector);
    case 'plan':
      return service.plan(call.params.selector, call.params.mode);
    case 'run':
      return service.run(call.params.selector, asked(call.params.ask));
    case 'now':
      return service.now(call.params.selector, call.params.mode, asked(call.params.ask));
    case 'rollback':
      return service.rollback(call.params.secret, asked(call.params.ask));
    case 'abandon':
      return service.abandon(call.params.secret, asked(call.params.ask));
    case 'pause':
      return service.pause(call.params.secret, asked(call.params.ask));
    case 'resume':
      return service.resume(call.params.secret, asked(call.params.ask));
    case 'restore':
      return service.restore(call.params.secret, asked(call.params.ask));
    case 'supply':
      return service.supply(
        call.params.secret,
        fieldsFromWire(call.params.fields),
        asked(call.params.ask),
      );
    case 'keep': {
      const { item, fields, look } = call.params;
      return service.keep(item, fieldsFromWire(fields), look, asked(call.params.ask));
    }
    case 'confirm': {
      const { secret, debt } = call.params;
      return service.confirm(secret, debt, asked(call.params.ask));
    }
    case 'read': {
      const { secret, stage } = call.params;
      const answer = await service.read(secret, stage, asked(call.params.ask));
      return { generation: answer.generation, fields: fieldsToWire(answer.fields) };
    }
    case 'history':
      return service.history(call.params.secret, call.params.most);
    case 'rotation':
      return service.rotation(call.params.id);
    case 'audit':
      return service.audit(call.params.secret, call.params.from, call.params.most);
    case 'auditVerify':
      return service.auditVerify();
    case 'grants':
      return service.grants();
    case 'allow':
      return service.allow(call.params.asked, asked(call.params.ask));
    case 'disallow': {
      const { server, hash } = call.params;
      return service.disallow(server, hash, asked(call.params.ask));
    }
    default:
      return call satisfies never;
  }
}

function broken(id: number | null, message: string): Incoming {
  return {
    kind: 'broken',
    id,
    error: new RotatedError('usage', message, {
      next: 'Use the rotate of the same version as the daemon.',
    }),
  };
}
