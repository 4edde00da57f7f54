/** The form in which PostgreSQL stores a password: computed here, so that the password itself never reaches the server's log. */
import { createHash, createHmac, pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';

/** PostgreSQL's own default (`scram_iterations`); the password is random, so more would only slow each login. */
const iterations = 4096;

/** RFC 5803 as PostgreSQL writes it; `salt` is 16 random bytes. The password must be ASCII, else SASLprep would be due. */
export async function scramVerifier(password: string, salt: Buffer): Promise<string> {
  const salted = await promisify(pbkdf2)(password, salt, iterations, 32, 'sha256');
  const hmac = (text: string): Buffer => createHmac('sha256', salted).update(text).digest();
  const stored = createHash('sha256').update(hmac('Client Key')).digest('base64');
  const server = hmac('Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${stored}:${server}`;
}
