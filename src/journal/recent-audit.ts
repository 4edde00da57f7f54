/** The newest audit lines, kept in the state row that every step writes anyway, until there are enough for a page. */
import type { Database } from './database.ts';
import type { AuditLine } from './journal.ts';

/** With the rest of the state row this stays within one page of 4 KB. */
const charactersMost = 3_000;

/** One line of text each: canonical JSON has no line breaks or tabs, and a mac neither. */
export function withLine(recent: string, { seq, mac, line }: AuditLine): string {
  return `${recent}${seq}\t${mac}\t${line}\n`;
}

export function parseRecent(recent: string): AuditLine[] {
  return recent
    .split('\n')
    .filter((text) => text !== '')
    .map((text) => {
      const [seq = '', mac = '', line = ''] = text.split('\t');
      return { seq: Number(seq), mac, line };
    });
}

/** Moves the lines into their table where they have grown to a page; gives what stays. */
export function settleRecent(database: Database, recent: string): string {
  if (recent.length <= charactersMost) return recent;
  for (const { seq, mac, line } of parseRecent(recent)) {
    database.run(
      'INSERT INTO audit (seq, secret, line, mac) VALUES (?, ?, ?, ?)',
      seq,
      secretOf(line),
      line,
      mac,
    );
  }
  return '';
}

export function secretOf(line: string): string | null {
  const { secret } = JSON.parse(line) as { secret?: unknown };
  return typeof secret === 'string' ? secret : null;
}
