/** How the login stands in the file that the daemon renders: JSON, the generation beside the item's fields. */
import { z } from 'zod';
import type { Login } from './login-pool.ts';

const shape = z.object({ generation: z.number(), PGUSER: z.string(), PGPASSWORD: z.string() });

export function readLogin(text: string): Login {
  const file = shape.parse(JSON.parse(text));
  return { generation: file.generation, user: file.PGUSER, password: file.PGPASSWORD };
}
