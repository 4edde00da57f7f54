/** A mistake of a policy file as text for a person: place, what is wrong, what was seen, what would be right. */
import { styleText } from 'node:util';
import type { PolicyProblem } from './policy.ts';

export interface RenderOptions {
  readonly color?: boolean;
  /** Columns of the terminal; lines are not wrapped where it is left out. */
  readonly width?: number;
}

const indent = '  ';

/**
 * `schedules/x.yaml:12:7  secrets.reports-db.grace  bad-duration`, then the message, `seen` and `example` on lines of
 * their own, without a line end after the last.
 */
export function renderProblem(problem: PolicyProblem, options: RenderOptions = {}): string {
  const { color = false, width = Number.POSITIVE_INFINITY } = options;
  const paint = (style: Parameters<typeof styleText>[0], text: string) =>
    color ? styleText(style, text, { validateStream: false }) : text;
  const { file, line, column, path, code, message, seen, example } = problem;
  const head = [
    paint('bold', `${file}:${line}:${column}`),
    ...(path === '' ? [] : [path]),
    paint('red', code),
  ].join('  ');
  const rows = [head, ...wrap(message, width - indent.length).map((row) => indent + row)];
  if (seen !== null) rows.push(`${indent}${paint('dim', 'seen:')}    ${seen}`);
  if (example !== null)
    rows.push(
      `${indent}${paint('dim', 'example:')} ${paint('green', example.replaceAll('\n', `\n${indent}         `))}`,
    );
  return rows.join('\n');
}

/** Examples are never broken, since they are there to be pasted. */
function wrap(text: string, width: number): string[] {
  const rows: string[] = [];
  let row = '';
  for (const word of text.split(' ')) {
    if (row !== '' && row.length + 1 + word.length > Math.max(20, width)) {
      rows.push(row);
      row = word;
    } else {
      row = row === '' ? word : `${row} ${word}`;
    }
  }
  return [...rows, row];
}
