/** What can be written beside `use: postgres`. */
import { z } from 'zod';

/** Names that need no thought about quoting, in SQL or in a ref. */
const name = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_$]{0,62}$/, 'a role name of letters, digits, _ and $ (at most 63)');

export const optionsSchema = z
  .strictObject({
    /** The two logins that take turns. Created at need. */
    roles: z.tuple([name, name]),
    /** The group role that holds the rights; both logins are members. */
    grant: name,
    /** Where the users of the login connect, if not where the admin does (a pooler, a replica). */
    host: z.string().min(1).max(255).optional(),
    port: z.int().min(1).max(65_535).optional(),
    database: z.string().min(1).max(63).optional(),
    /** auto: as the admin URL's sslmode says, else verify, and off on this machine itself. encrypt: without a look at the certificate. */
    tls: z.enum(['auto', 'verify', 'encrypt', 'off']).default('auto'),
    /** A PEM file of certificate authorities to trust instead of the system's. */
    ca: z.string().min(1).optional(),
    /** Characters of A-Z a-z 0-9: 22 are 131 bits. */
    passwordLength: z.int().min(22).max(256).default(40),
  })
  .refine(({ roles }) => roles[0] !== roles[1], { path: ['roles'], message: 'two different roles' })
  .refine(({ roles, grant }) => !roles.includes(grant), {
    path: ['grant'],
    message: 'a role other than the two logins',
  });

export type PostgresOptions = z.infer<typeof optionsSchema>;
