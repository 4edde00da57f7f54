/** What can be written beside `use: redis`. */
import { z } from 'zod';

export const optionsSchema = z.strictObject({
  /** The ACL user whose passwords rotate. It must exist: its rights are not ours to choose. */
  user: z.string().regex(/^[A-Za-z0-9_.:-]{1,64}$/, 'a user name of letters, digits and _ . : -'),
  /** Where the users connect, if not where the admin does. */
  host: z.string().min(1).max(255).optional(),
  port: z.int().min(1).max(65_535).optional(),
  /** auto: as the admin URL says (rediss://), else verify, and off on this machine itself. */
  tls: z.enum(['auto', 'verify', 'off']).default('auto'),
  /** A PEM file of certificate authorities to trust instead of the system's. */
  ca: z.string().min(1).optional(),
  /** How ACL changes survive a restart of the server. auto: ACL SAVE, else CONFIG REWRITE, else a warning. */
  aclSave: z.enum(['auto', 'aclfile', 'config', 'none']).default('auto'),
  /** all: at the revoke end every session of the user that was opened before it. none: leave them, also those of the old password. */
  endSessions: z.enum(['all', 'none']).default('all'),
  /** How many passwords the user may have, ours or not; Redis itself sets no limit. */
  passwordsMax: z.int().min(2).max(16).default(2),
  /** Characters of A-Z a-z 0-9: 22 are 131 bits. */
  passwordLength: z.int().min(22).max(256).default(40),
});

export type RedisOptions = z.infer<typeof optionsSchema>;
