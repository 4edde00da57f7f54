/** An HTTP server behind the gate: each request passed on with the newest credentials, each answer passed back. */
import type { ClientRequest } from 'node:http';
import { isRotatedError } from '../../errors.ts';
import type { Entry } from '../entry.ts';
import { frameBytesMax } from '../frames.ts';
import { gateErrors } from '../message.ts';
import type { ValueSource } from '../source.ts';
import { answerError, answerFailure, answerTooLarge, readBody } from './answers.ts';
import type { Around, Backend, Incoming } from './backend.ts';
import type { HttpClient } from './client.ts';
import { headerOf } from './headers.ts';
import { holdValues } from './held-values.ts';
import { serveLiveStream } from './live-stream.ts';
import { outgoingHeaders, outgoingUrl, passBack, refuseRedirect, wantsLogin } from './upstream.ts';

/** A shorter body is sent on in one piece, once it is here; a longer one as it comes. */
const wholeBytesMost = 256 << 10;

/** At the end of the gate, calls under way may take so long. */
const lastAnswersMs = 5_000;

export function createPassThrough(
  entry: Entry,
  source: ValueSource,
  client: HttpClient,
  around: Around,
): Backend {
  const values = holdValues(entry, source, around);
  const open = new Set<Promise<void>>();
  const closing = new AbortController();
  let isLoginSaid = false;

  async function handle(incoming: Incoming): Promise<void> {
    const { request } = incoming;
    const accept = headerOf(request.headers, 'accept') ?? '';
    if (request.method === 'GET' && accept.includes('text/event-stream')) {
      await live(incoming, null);
      return;
    }
    const isListen = request.headers['mcp-method'] === 'subscriptions/listen';
    // Without a length, how long it is shows only at its end.
    const isUnmeasured = request.headers['transfer-encoding'] !== undefined;
    let body: Buffer | null = null;
    if (Number(request.headers['content-length'] ?? 0) > frameBytesMax) {
      answerTooLarge(incoming.response);
      return;
    }
    const isSmall = Number(request.headers['content-length'] ?? 0) <= wholeBytesMost;
    if (isListen || isUnmeasured || (request.method === 'POST' && isSmall)) {
      body = await readBody(request);
      if (body === null) {
        answerTooLarge(incoming.response);
        return;
      }
    }
    await (isListen ? live(incoming, body) : once(incoming, body));
  }

  function live(incoming: Incoming, listen: Buffer | null): Promise<void> {
    const { redact } = source.settings();
    const until = closing.signal;
    return serveLiveStream(incoming, { entry, values, client, around, redact, listen, until });
  }

  async function once(incoming: Incoming, body: Buffer | null): Promise<void> {
    const { request, response } = incoming;
    let sent: ClientRequest | null = null;
    const end = () => sent?.destroy();
    response.on('close', end);
    const lease = await values.lease();
    lease.onCut = end;
    if (response.destroyed) {
      lease.release();
      return;
    }
    const { redact } = source.settings();
    try {
      const hasBody = request.headers['content-length'] !== undefined;
      const answer = await client.send({
        url: outgoingUrl(incoming, lease.held),
        method: request.method ?? 'POST',
        headers: outgoingHeaders(incoming, lease.held, { identity: redact, body }),
        body: body ?? (hasBody ? request : null),
        onBegin: (begun) => {
          sent = begun;
        },
      });
      refuseRedirect(answer, entry, lease.held);
      if (!isLoginSaid && wantsLogin(answer, entry)) {
        isLoginSaid = true;
        around.log.warn(
          { server: entry.name },
          'this server wants a login of the client: the gate leaves that to the client',
        );
      }
      await passBack(answer, response, redact ? values.redactor : null);
    } catch (error) {
      if (lease.isCut()) {
        const message = 'An emergency replaced the credential of this server and ended the call.';
        answerError(response, 503, { code: gateErrors.cut, message });
      } else if (isRotatedError(error)) {
        answerFailure(response, error);
      } else {
        // Broken off in the middle: the client sees that too.
        response.destroy();
      }
    } finally {
      response.off('close', end);
      lease.release();
    }
  }

  return {
    async handle(incoming) {
      const handled = handle(incoming).catch((error: unknown) => {
        const { code } = answerFailure(incoming.response, error);
        around.log.warn({ server: entry.name, code }, 'a call could not be passed on');
      });
      open.add(handled);
      await handled;
      open.delete(handled);
    },
    async close() {
      closing.abort();
      // What takes longer is broken off with its connection.
      const enough = new AbortController();
      const late = around.clock.sleep(lastAnswersMs, enough.signal).catch(() => undefined);
      await Promise.race([Promise.all(open), late]);
      enough.abort();
      await values.close();
    },
  };
}
