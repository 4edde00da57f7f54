/** How things look in a terminal: durations, instants, tables that fit 80 columns. */

/** Two digits and a unit, for columns: `45s`, `12m`, `3h`, `26d`. */
export function shortDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 100) return `${seconds}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes}m`;
  const hours = Math.round(minutes / 60);
  if (hours < 72) return `${hours}h`;
  return `${Math.round(hours / 24)}d`;
}

/** For sentences: `0.4 s`, `12 s`, `5 min`, `2 h 5 min`, `3 days`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, ms) / 1_000;
  if (seconds < 1) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  return rest === 0 ? `${hours} h` : `${hours} h ${rest} min`;
}

/** To the second, in UTC: the same in a log, a report and a ticket. */
export function instant(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19)}Z`;
}

/** For columns. */
export function minute(at: number): string {
  return `${new Date(at).toISOString().slice(0, 16)}Z`;
}

export function timeOfDay(at: number): string {
  return new Date(at).toISOString().slice(11, 19);
}

export interface Column {
  readonly title: string;
  /** Longest shown; the rest is cut with an ellipsis. */
  readonly widthMax: number;
  readonly right?: boolean;
}

/** Columns as wide as they need to be, at most `columns` in all: the widest give way first. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width = 80,
): string {
  const widths = columns.map((column, index) =>
    Math.min(
      column.widthMax,
      rows.reduce((most, row) => Math.max(most, (row[index] ?? '').length), column.title.length),
    ),
  );
  const total = () => widths.reduce((sum, each) => sum + each + 1, -1);
  while (total() > width) {
    const widest = widths.indexOf(Math.max(...widths));
    widths[widest] = (widths[widest] ?? 1) - 1;
    if (Math.max(...widths) <= 4) break;
  }
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, index) => {
        const shown = cut(cell, widths[index] ?? 0);
        const { right } = columns[index] ?? {};
        return right ? shown.padStart(widths[index] ?? 0) : shown.padEnd(widths[index] ?? 0);
      })
      .join(' ')
      .trimEnd();
  return `${[columns.map((column) => column.title), ...rows].map(line).join('\n')}\n`;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}

/**
 * Long lines broken at spaces, what follows indented by two more. Lines that hold a command to copy (`Next:`, `Run:`) stay
 * whole: a terminal shows them over several lines by itself.
 */
export function wrapLines(text: string, width: number): string {
  return text
    .split('\n')
    .map((line) =>
      line.length <= width || /^\s*(Next|Run): /.test(line) ? line : wrap(line, width),
    )
    .join('\n');
}

function wrap(line: string, width: number): string {
  const indent = `${/^ */.exec(line)?.[0] ?? ''}  `;
  const lines: string[] = [];
  let rest = line;
  while (rest.length > width) {
    const at = rest.lastIndexOf(' ', width);
    // One word fills the line: whoever copies it wants it whole.
    const end = at > indent.length ? at : rest.indexOf(' ', width);
    if (end === -1) break;
    lines.push(rest.slice(0, end).trimEnd());
    rest = `${indent}${rest.slice(end + 1).trimStart()}`;
  }
  return [...lines, rest].join('\n');
}

/** `… Next: do this` as lines of their own, so that what is to be typed can be seen and copied. */
export function stepsApart(text: string): string {
  return text.replaceAll(/ (?=(?:Next|Run): )/g, '\n  ');
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
