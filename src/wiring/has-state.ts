/** Whether a directory has ever held a state: apart from everything else, since few commands ask. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { databaseName } from '../state-place.ts';

/** Has this directory ever held a state? Its key must then not be made anew. */
export function hasState(state: string): boolean {
  return existsSync(path.join(state, databaseName));
}
