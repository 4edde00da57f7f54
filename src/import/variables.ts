/** What stands where a key would stand and is none: a reference, a variable of the client, a placeholder nobody filled in. */
import { isReference } from '../gate/entry.ts';

export type Indirection = 'empty' | 'reference' | 'variable' | 'placeholder';

const template = /\{\{[^}]*\}\}/;
/** `${X}`, `${env:X}`, `${input:x}`, `${X:-default}`; `$X` and `%X%` as a whole. */
const variable = /\$\{[^}]*\}|^\$[A-Za-z_]\w*$|^%[A-Za-z_]\w*%$/;
const placeholders = [
  /^<.*>$/s,
  /^\[.*\]$/s,
  /\b(?:your|my|insert|enter|replace|put|paste|add)[-_ ](?:\w+[-_ ])*(?:key|token|secret|password|pat|here)/i,
  /^your[-_]/i,
  /^[a-z_-]*(?:x{5,}|\*{3,}|\.{3,}|…)$/i,
  /^(?:change[-_]?me|placeholder|todo|tbd|dummy|example|none|null|undefined|n\/a|redacted)$/i,
];
/** Not in a URL: there they are passwords that people really use. */
const bareWords = /^(?:key|token|secret|password|api[-_ ]?key)$/i;

/** null where it is a value. */
export function indirectionOf(text: string, where: 'url' | 'else' = 'else'): Indirection | null {
  const trimmed = text.trim();
  if (trimmed === '') return 'empty';
  if (isReference(trimmed) || template.test(trimmed)) return 'reference';
  if (variable.test(trimmed)) return 'variable';
  const isPlaceholder =
    placeholders.some((form) => form.test(trimmed)) ||
    (where === 'else' && bareWords.test(trimmed));
  return isPlaceholder ? 'placeholder' : null;
}
