/** How the login stands in the file that the daemon renders: JSON, the item's fields beside their generation. */
import { z } from 'zod';
import type { Login } from './login-pool.ts';

const shape = z.object({
  generation: z.number(),
  fields: z.object({ PGUSER: z.string(), PGPASSWORD: z.string() }),
});

export function readLogin(text: string): Login {
  const { generation, fields } = shape.parse(JSON.parse(text));
  return { generation, user: fields.PGUSER, password: fields.PGPASSWORD };
}
