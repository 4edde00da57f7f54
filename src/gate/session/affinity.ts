/** What only the process that handed it out understands: cursors, tasks, the state of a multi-round-trip request. */
import { type Message, paramOf, stringParam } from '../message.ts';
import { eachMember, type Range, stringAt, valueAt } from '../scan.ts';
import type { Running } from './running.ts';

export interface Affinity {
  /** Whether a message among these bytes may hand something out: asked once for all that came together. */
  concerns(bytes: Buffer): boolean;
  /** From an answer, or a notification about a task. */
  learn(running: Running, message: Message): void;
  /** The process that must get this request; null where any can. */
  ownerOf(request: Message): Running | null;
  /** The request is on its way to its owner: a round is answered once, the next has a state of its own. */
  used(request: Message): void;
  /** Rounds that the client has not come back with, and tasks that are not known to have ended. */
  open(running: Running, kind?: 'round' | 'task'): number;
  forget(running: Running): void;
}

interface Handed {
  readonly owner: Running;
  readonly isOpen: boolean;
}

/** A client that asks for pages and never comes back must not fill the memory. */
const keptMost = 10_000;
const markers = ['"nextCursor"', '"requestState"', '"taskId"'].map((text) => Buffer.from(text));
const ended: ReadonlySet<string | null> = new Set(['completed', 'failed', 'cancelled']);

export function createAffinity(): Affinity {
  const handed = new Map<string, Handed>();

  function keep(key: string, one: Handed): void {
    handed.delete(key);
    handed.set(key, one);
    for (const oldest of handed.keys()) {
      if (handed.size <= keptMost) break;
      handed.delete(oldest);
    }
  }

  function keyOf(request: Message): string | null {
    const state = stringParam(request, 'requestState');
    if (state !== null) return `round ${state}`;
    if (request.method?.startsWith('tasks/') === true) {
      const task = stringParam(request, 'taskId');
      return task === null ? null : `task ${task}`;
    }
    const cursor = paramOf(request, 'cursor');
    return cursor === null ? null : `cursor ${stringAt(request.bytes, cursor) ?? ''}`;
  }

  return {
    concerns: (bytes) => markers.some((marker) => bytes.includes(marker)),
    learn(running, message) {
      for (const [key, isOpen, isNew] of handedOut(message)) {
        // The owner of a task is whoever began it, whoever speaks of it later.
        const owner = isNew ? running : (handed.get(key)?.owner ?? running);
        keep(key, { owner, isOpen });
      }
    },
    ownerOf(request) {
      if (handed.size === 0) return null;
      const key = keyOf(request);
      return key === null ? null : (handed.get(key)?.owner ?? null);
    },
    used(request) {
      if (handed.size === 0) return;
      const key = keyOf(request);
      if (key?.startsWith('round ') === true) handed.delete(key);
    },
    open(running, kind) {
      let count = 0;
      for (const [key, { owner, isOpen }] of handed) {
        const isAsked = kind === undefined || key.startsWith(kind);
        if (isOpen && owner === running && isAsked) count++;
      }
      return count;
    },
    forget(running) {
      for (const [key, { owner }] of handed) if (owner === running) handed.delete(key);
    },
  };
}

type Found = readonly [key: string, isOpen: boolean, isNew: boolean];

function handedOut(message: Message): readonly Found[] {
  const { bytes, result, params } = message;
  if (result === null) {
    const isStatus = message.method?.startsWith('notifications/tasks') === true;
    return isStatus && params !== null ? taskIn(bytes, params, false) : [];
  }
  const found: Found[] = [];
  eachMember(bytes, result, (key, value) => {
    const text = stringAt(bytes, value);
    if (key === 'nextCursor' && text !== null) found.push([`cursor ${text}`, false, true]);
    else if (key === 'requestState' && text !== null) found.push([`round ${text}`, true, true]);
    else if (key === 'task') found.push(...taskIn(bytes, value, true));
  });
  // 2025-11-25 puts a new task into `task`; whoever asks for one, and the extension of 2026-07-28, gets it as the result.
  const isNew = stringAt(bytes, valueAt(bytes, result, 'resultType')) === 'task';
  return [...found, ...taskIn(bytes, result, isNew)];
}

function taskIn(bytes: Buffer, range: Range, isNew: boolean): readonly Found[] {
  const id = stringAt(bytes, valueAt(bytes, range, 'taskId'));
  if (id === null) return [];
  const status = stringAt(bytes, valueAt(bytes, range, 'status'));
  return [[`task ${id}`, !ended.has(status), isNew]];
}
