/** What only the process that handed it out understands: cursors, tasks, the state of a multi-round-trip request. */
import { type Message, paramOf, stringParam } from '../message.ts';
import { eachMember, type Range, stringAt, valueAt } from '../scan.ts';
import type { Running } from './running.ts';

export interface Affinity {
  /** Whether an answer among these bytes may hand something out: asked once for all that came together. */
  concerns(bytes: Buffer): boolean;
  learn(running: Running, answer: Message): void;
  /** The process that must get this request; null where any can. */
  ownerOf(request: Message): Running | null;
  /** Rounds of a multi-round-trip request that the client has not come back with. */
  openRounds(running: Running): number;
  forget(running: Running): void;
}

/** A client that asks for pages and never comes back must not fill the memory. */
const keptMost = 10_000;
const markers = ['"nextCursor"', '"requestState"', '"taskId"'].map((text) => Buffer.from(text));

export function createAffinity(): Affinity {
  const owners = new Map<string, Running>();

  function keep(key: string, running: Running): void {
    owners.delete(key);
    owners.set(key, running);
    for (const oldest of owners.keys()) {
      if (owners.size <= keptMost) break;
      owners.delete(oldest);
    }
  }

  return {
    concerns: (bytes) => markers.some((marker) => bytes.includes(marker)),
    learn(running, { bytes, result }) {
      if (result === null) return;
      for (const [kind, value] of handedOut(bytes, result)) keep(`${kind} ${value}`, running);
    },
    ownerOf(request) {
      if (owners.size === 0) return null;
      const state = stringParam(request, 'requestState');
      if (state !== null) {
        const key = `round ${state}`;
        const owner = owners.get(key) ?? null;
        // Each round is answered once; the next one has a state of its own.
        owners.delete(key);
        return owner;
      }
      if (request.method?.startsWith('tasks/') === true) {
        const task = stringParam(request, 'taskId');
        return task === null ? null : (owners.get(`task ${task}`) ?? null);
      }
      const cursor = paramOf(request, 'cursor');
      if (cursor === null) return null;
      return owners.get(`cursor ${stringAt(request.bytes, cursor) ?? ''}`) ?? null;
    },
    openRounds(running) {
      let count = 0;
      for (const [key, owner] of owners) if (owner === running && key.startsWith('round ')) count++;
      return count;
    },
    forget(running) {
      for (const [key, owner] of owners) if (owner === running) owners.delete(key);
    },
  };
}

function handedOut(bytes: Buffer, result: Range): readonly (readonly [string, string])[] {
  const found: (readonly [string, string])[] = [];
  const note = (kind: string, range: Range | null) => {
    const text = stringAt(bytes, range);
    if (text !== null) found.push([kind, text]);
  };
  eachMember(bytes, result, (key, value) => {
    if (key === 'nextCursor') note('cursor', value);
    else if (key === 'requestState') note('round', value);
    // 2025-11-25 puts it into `task`, the extension of 2026-07-28 beside `resultType`.
    else if (key === 'taskId') note('task', value);
    else if (key === 'task') note('task', valueAt(bytes, value, 'taskId'));
  });
  return found;
}
