/** Which keys a schema allows at a place: for suggestions. */
import { z } from 'zod';
import type { Path } from './document.ts';

export function knownKeysAt(schema: z.core.$ZodType, path: Path): readonly string[] {
  let here = unwrap(schema);
  for (const part of path) here = here.flatMap((one) => below(one, part)).flatMap(unwrap);
  return [
    ...new Set(here.flatMap((one) => (one instanceof z.ZodObject ? Object.keys(one.shape) : []))),
  ];
}

function below(schema: z.core.$ZodType, part: string | number): readonly z.core.$ZodType[] {
  if (schema instanceof z.ZodObject) {
    const shape = schema.shape as Readonly<Record<string, z.core.$ZodType>>;
    const next = Object.hasOwn(shape, part) ? shape[part] : undefined;
    return next === undefined ? [] : [next];
  }
  if (schema instanceof z.ZodRecord) return [schema.valueType];
  if (schema instanceof z.ZodArray && typeof part === 'number') return [schema.element];
  return [];
}

function unwrap(schema: z.core.$ZodType): readonly z.core.$ZodType[] {
  if (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault
  ) {
    return unwrap(schema.unwrap());
  }
  if (schema instanceof z.ZodPipe) return unwrap(schema.in);
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(unwrap);
  return [schema];
}
