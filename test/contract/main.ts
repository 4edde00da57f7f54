/** `npm run -s contract -- KIND [SUBJECT…]`: which contract is meant. */
import { runCheck } from '../support/check.ts';
import { providerContractText, runProviderContract } from './provider.ts';

const [kind, ...rest] = process.argv.slice(2);

switch (kind) {
  case 'provider':
    await runCheck(
      { name: 'contract', run: runProviderContract, text: providerContractText },
      rest,
    );
    break;
  default:
    process.stderr.write(
      'contract: say which: npm run -s contract -- provider [SUBJECT…] [--json]\n',
    );
    process.exitCode = 2;
}
