/** What an import will change in a file, as a unified diff in which no value can be read. */
import { masked, type Window } from './mask.ts';
import { applyEdits, type Edit, inOrder } from './rewrite.ts';

const contextLines = 3;
/** A minified config is one line: what is shown of it is cut. */
const lineLengthMax = 240;

interface Hunk {
  /** Lines from 0, ends excluded. */
  readonly oldFrom: number;
  oldTo: number;
  readonly newFrom: number;
  newTo: number;
}

/** From the edits themselves, and blotted out where it is shown: a large file costs little more than a small one. */
export function diffOf(file: string, text: string, edits: readonly Edit[]): string {
  const after = applyEdits(text, edits);
  const [rawOld, rawFresh] = [linesOf(text), linesOf(after)];
  const hunks = changedLines(text, edits).map((hunk) => trimmed(hunk, rawOld, rawFresh));
  if (hunks.length === 0) return '';
  const groups = near(hunks).map((group) => shownLines(group, rawOld.length));
  const old = linesOf(
    masked(
      text,
      groups.map(({ from, to }) => offsetsOf(text, from, to)),
    ),
  );
  const fresh = linesOf(
    masked(
      after,
      groups.map(({ newFrom, newTo }) => offsetsOf(after, newFrom, newTo)),
    ),
  );
  const rows = [`--- ${file}`, `+++ ${file}`];
  for (const { group, from, to, newFrom, newTo } of groups) {
    rows.push(`@@ -${from + 1},${to - from} +${newFrom + 1},${newTo - newFrom} @@`);
    let at = from;
    for (const { oldFrom, oldTo, newFrom: freshFrom, newTo: freshTo } of group) {
      rows.push(...old.slice(at, oldFrom).map((line) => row(' ', line)));
      rows.push(...old.slice(oldFrom, oldTo).map((line) => row('-', line)));
      rows.push(...fresh.slice(freshFrom, freshTo).map((line) => row('+', line)));
      at = oldTo;
    }
    rows.push(...old.slice(at, to).map((line) => row(' ', line)));
  }
  return `${rows.join('\n')}\n`;
}

function shownLines(group: readonly Hunk[], lines: number) {
  const [first, last] = [group[0] as Hunk, group.at(-1) as Hunk];
  const from = Math.max(0, first.oldFrom - contextLines);
  const to = Math.min(lines, last.oldTo + contextLines);
  const newFrom = first.newFrom - (first.oldFrom - from);
  return { group, from, to, newFrom, newTo: last.newTo + (to - last.oldTo) };
}

/** Where these lines begin and end in the text. */
function offsetsOf(text: string, from: number, to: number): Window {
  let start = 0;
  for (let line = 0; line < from; line++) start = text.indexOf('\n', start) + 1;
  let end = start;
  for (let line = from; line < to && end !== -1; line++) end = text.indexOf('\n', end + 1);
  return { from: start, to: end === -1 ? text.length : end };
}

function linesOf(text: string): string[] {
  const lines = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

function row(sign: string, line: string): string {
  const shown = line.length <= lineLengthMax ? line : `${line.slice(0, lineLengthMax)}…`;
  return sign + shown;
}

/** The lines that each edit touches, before and after; those of one line together. */
function changedLines(text: string, edits: readonly Edit[]): Hunk[] {
  const hunks: Hunk[] = [];
  let line = 0;
  let at = 0;
  let shift = 0;
  const lineOf = (offset: number) => {
    for (; at < offset; at++) if (text[at] === '\n') line += 1;
    return line;
  };
  for (const { offset, length, content } of inOrder(edits)) {
    const from = lineOf(offset);
    // A deletion that ends with a line's end takes that line alone.
    const isWholeLines = content === '' && text[offset + length - 1] === '\n';
    const to = lineOf(offset + length) + (isWholeLines ? 0 : 1);
    const gone = text.slice(offset, offset + length).split('\n').length - 1;
    const come = content.split('\n').length - 1;
    const last = hunks.at(-1);
    if (last !== undefined && from < last.oldTo) {
      last.oldTo = Math.max(last.oldTo, to);
      shift += come - gone;
      last.newTo = last.oldTo + shift;
    } else {
      const newFrom = from + shift;
      shift += come - gone;
      hunks.push({ oldFrom: from, oldTo: to, newFrom, newTo: to + shift });
    }
  }
  return hunks;
}

/** Lines that an edit touches and leaves as they were are context. */
function trimmed(hunk: Hunk, old: readonly string[], fresh: readonly string[]): Hunk {
  let { oldFrom, oldTo, newFrom, newTo } = hunk;
  while (oldFrom < oldTo && newFrom < newTo && old[oldFrom] === fresh[newFrom]) {
    oldFrom += 1;
    newFrom += 1;
  }
  while (oldFrom < oldTo && newFrom < newTo && old[oldTo - 1] === fresh[newTo - 1]) {
    oldTo -= 1;
    newTo -= 1;
  }
  return { oldFrom, oldTo, newFrom, newTo };
}

function near(hunks: readonly Hunk[]): Hunk[][] {
  const groups: Hunk[][] = [];
  for (const hunk of hunks) {
    const group = groups.at(-1);
    const last = group?.at(-1);
    if (
      group !== undefined &&
      last !== undefined &&
      hunk.oldFrom - last.oldTo <= 2 * contextLines
    ) {
      group.push(hunk);
    } else groups.push([hunk]);
  }
  return groups;
}
