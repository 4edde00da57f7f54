/** The lightest server there can be, by stdio: what a relay in front of it costs is what shows. */
import { createLineSplitter } from '../load/lines.ts';
import { callKey, type Message } from '../load/message.ts';
import { logVariable, openCallLog } from '../load/server-log.ts';
import { answerOf } from './echo-answers.ts';

const log = openCallLog(process.env[logVariable], process.env['API_KEY'] ?? 'none');

process.stdin.on(
  'data',
  createLineSplitter((line) => {
    const message = JSON.parse(line) as Message;
    const call = (message.params?.['_meta'] as Record<string, unknown> | undefined)?.[callKey];
    if (typeof call === 'string') log.call({ id: call, method: message.method ?? '' });
    const answer = answerOf(message);
    if (answer !== null) process.stdout.write(`${answer}\n`);
  }),
);
