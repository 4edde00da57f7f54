/** Runs the provider contract against `postgres` and a real server. */
import { postgresSubject } from '../../test/contract/subjects/postgres.ts';
import { describeContract } from '../../test/contract/vitest.ts';

describeContract('postgres', postgresSubject);
