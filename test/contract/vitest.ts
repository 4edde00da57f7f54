/** The provider contract as vitest tests: one for each case, skipped ones with their reason. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type ContractSubject,
  providerContract,
  runCase,
  unknownSkips,
} from '../../src/provider/contract.ts';

/** `missing`: why the subject cannot run here; printed, and the tests are skipped. */
export function describeContract(
  name: string,
  open: () => Promise<ContractSubject>,
  missing: string | null = null,
): void {
  if (missing !== null) process.stderr.write(`skipped: contract of ${name}: ${missing}\n`);
  describe.skipIf(missing !== null)(`the provider contract: ${name}`, () => {
    let subject: ContractSubject;
    beforeAll(async () => {
      subject = await open();
    });
    afterAll(async () => {
      await subject?.[Symbol.asyncDispose]();
    });

    for (const one of providerContract()) {
      test(one.name, async (context) => {
        const outcome = await runCase(subject, one);
        if (outcome.outcome === 'skipped') context.skip(outcome.reason);
        expect(outcome).toEqual({ name: one.name, outcome: 'passed' });
      });
    }

    test('every declared skip names a case', () => {
      expect(unknownSkips(subject)).toEqual([]);
    });
  });
}
