/** Runs the provider contract against `exec` and a command in Python; `npm run contract` adds the other crash classes. */
import { execSubject, missingPython } from '../../test/contract/subjects/exec.ts';
import { describeContract } from '../../test/contract/vitest.ts';

describeContract('exec', () => execSubject('listable', 'as installed'), missingPython());
