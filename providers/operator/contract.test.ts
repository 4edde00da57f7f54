/** Runs the provider contract against `operator` and a small HTTP issuer. */
import { operatorSubject } from '../../test/contract/subjects/operator.ts';
import { describeContract } from '../../test/contract/vitest.ts';

describeContract('operator', operatorSubject);
