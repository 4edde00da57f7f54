/** An import as a person reads it, and as JSON: what is found where, what becomes of it, and never a value. */
import { diffOf } from '../import/diff.ts';
import { referenceTo } from '../import/model.ts';
import type { EntryPlan, FilePlan, Plan } from '../import/plan.ts';
import { plural, wrapLines } from './print.ts';

/** `width`: of the terminal that reads it; the diff stays as it is. */
export function planText(plan: Plan, width: number): string {
  const blocks = plan.files.map((file) => wrapLines(fileText(file), width));
  const diffs = plan.files.map(({ config, edits }) => diffOf(config.file, config.text, edits));
  return [...blocks, ...diffs.filter((diff) => diff !== '')].join('\n');
}

function fileText({ config, entries }: FilePlan): string {
  const width = Math.min(24, Math.max(0, ...entries.map(({ server }) => server.label.length)));
  const rows = entries.flatMap((entry) => entryRows(entry, width));
  return `${config.file} (${config.client})\n${rows.map((row) => `  ${row}\n`).join('')}`;
}

function entryRows({ server, verdict, name, keys, rewrite }: EntryPlan, width: number): string[] {
  const kind = verdict.kind === 'left' ? 'left alone' : verdict.kind;
  const rows = [`${server.label.padEnd(width)}  ${kind.padEnd(10)}  ${verdict.reason}`];
  if (name !== null && name !== server.label) rows.push(`  its name for the gate: ${name}`);
  for (const { spot, key, secret } of keys) {
    const where = spot.name === '' ? spot.where : `${spot.where} ${spot.name}`;
    rows.push(`  ${where}: ${plural(key.length, 'character')} → secret ${secret}`);
  }
  for (const warning of rewrite?.warnings ?? []) rows.push(`  ! ${warning}`);
  return rows;
}

export function planJson(plan: Plan) {
  return {
    files: plan.files.map(({ config, entries, edits }) => ({
      file: config.file,
      client: config.client,
      changes: edits.length > 0,
      servers: entries.map(({ server, verdict, name, keys, rewrite }) => ({
        label: server.label,
        path: server.path,
        name,
        verdict: verdict.kind,
        left: verdict.left,
        reason: verdict.reason,
        keys: keys.map(({ spot, key, secret }) => ({
          where: spot.where,
          name: spot.name,
          characters: key.length,
          secret,
        })),
        warnings: rewrite?.warnings ?? [],
        granted: rewrite === null ? null : rewrite.grant !== null,
      })),
      diff: diffOf(config.file, config.text, edits),
    })),
    secrets: plan.secrets.map(({ name, item, fields, issuer, servers }) => ({
      name,
      references: fields.map(({ field }) => referenceTo(item, field)),
      issuer: issuer?.id ?? null,
      servers,
    })),
  };
}
