/** Checks that cannot come out the same where the server behind the gate speaks stdio, each with the rule that makes it so. */
import type { Excuses } from './compare.ts';
import type { Revision } from './suite.ts';

const noStream =
  'by stdio a server cannot close the stream of its answer (SEP-1699 is of Streamable HTTP); with nothing to say before the ' +
  'answer, the gate answers as JSON, which the revision leaves to it (basic/transports, "Sending Messages to the Server", 5)';

export const stdioExcuses: Readonly<Record<Revision, Excuses>> = {
  '2025-11-25': {
    'server-sse-multiple-streams/server-sse-streams-functional': noStream,
    'server-sse-polling/server-sse-priming-event': noStream,
    'server-sse-polling/server-sse-retry-field': noStream,
    'server-sse-polling/server-sse-disconnect-resume': noStream,
  },
  '2026-07-28': {},
};
