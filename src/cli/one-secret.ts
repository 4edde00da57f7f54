/** The commands that ask one thing about one secret are alike: only the call differs. */
import type { Ask, Service, Started } from '../rotation/service.ts';
import { addReasonOption, askOf, type Call, type CommandModule, only } from './command.ts';
import { withService } from './connect.ts';
import { exitOfStarted, worst } from './exit.ts';
import { follow, type FollowOptions, startedText } from './follow.ts';
import { addWaitOption, printOutcomes, waitOf } from './outcomes.ts';

export function oneSecretCommand(
  name: string,
  ask: (service: Service, secret: string, ask: Ask) => Promise<Started>,
  /** Follow the rotation to this end; null: the answer is all there is. */
  wanted: FollowOptions['wanted'] | null,
): CommandModule {
  return {
    configure(command) {
      addReasonOption(command);
      if (wanted !== null) addWaitOption(command);
    },
    run: (call: Call) =>
      withService(call, 'act', async ({ service, note }) => {
        const started = await ask(service, only(call.args, name), askOf(call));
        if (wanted === null || started.rotation === null) {
          const exit = exitOfStarted(started);
          if (call.options.json === true) {
            call.io.out(`${JSON.stringify({ ok: exit === 'ok', ...started, note })}\n`);
          } else call.io.out(startedText(started));
          return exit;
        }
        const outcomes = await follow(call, service, [started], {
          patienceMs: waitOf(call),
          waitingIs: 'ok',
          ...(wanted === undefined ? {} : { wanted }),
        });
        printOutcomes(call, outcomes, note);
        return worst(outcomes.map((one) => one.exit));
      }),
  };
}
