/** Runs the provider contract against `generated`, each kind. */
import { generatedKinds, generatedSubject } from '../../test/contract/subjects/generated.ts';
import { describeContract } from '../../test/contract/vitest.ts';

for (const kind of generatedKinds) {
  describeContract(`generated ${kind}`, async () => generatedSubject(kind));
}
