/** `npm run -s bench -- NAME`: which benchmark is meant. Exits with 0 where everything was measured, budgets met or not. */
import { relayText, runRelay } from '../gate/relay.ts';
import { runSwap, swapText } from '../gate/swap.ts';
import { runCheck } from '../support/check.ts';
import { engineText, runEngine } from './engine.ts';
import { incidentText, runIncident } from './incident.ts';

const [kind, ...rest] = process.argv.slice(2);

switch (kind) {
  case 'engine':
    await runCheck({ name: 'bench', run: runEngine, text: engineText }, rest);
    break;
  case 'incident':
    await runCheck({ name: 'bench', run: runIncident, text: incidentText }, rest);
    break;
  case 'swap':
    await runCheck({ name: 'bench', run: runSwap, text: swapText }, rest);
    break;
  case 'relay':
    await runCheck({ name: 'bench', run: runRelay, text: relayText }, rest);
    break;
  default:
    process.stderr.write(
      'bench: say which: npm run -s bench -- engine | incident | swap | relay [--short] [--json]\n',
    );
    process.exitCode = 2;
}
