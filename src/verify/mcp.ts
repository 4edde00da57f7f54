/** The mcp check: an MCP server started with the credential, and one read-only call that uses it. */
import path from 'node:path';
import { minimalEnvironment } from '../child.ts';
import { asRotatedError, type ErrorCode } from '../errors.ts';
import { canaryProblem } from '../gate/canary.ts';
import type { Launch } from '../gate/entry.ts';
import { processLink } from '../gate/process-link.ts';
import type { Secret } from '../secret/secret.ts';
import {
  cannotTell,
  type CheckSpec,
  fieldOf,
  refuseReserved,
  type VerifierContext,
} from './check.ts';
import { type McpClient, openMcp } from './mcp-client.ts';
import type { Candidate, Verifier } from './verifier.ts';

type McpSpec = Extract<CheckSpec, { kind: 'mcp' }>;

/** A thousand tools and more; beyond it the server pages for ever. */
const pagesMost = 50;
/** No such method, header mismatch, missing capability, other revision (2026-07-28): said before any tool runs. */
const ofTheCall: ReadonlySet<number> = new Set([-32_601, -32_020, -32_021, -32_022]);

/**
 * A listing proves nothing: most servers list their tools with any key. So the tool is called, and a result with `isError`, or
 * an error, means that the credential does not work. A server that does not start, ends, hangs or lacks the tool cannot tell,
 * and throws. What it says goes nowhere.
 */
export function mcpVerifier(spec: McpSpec, { directory }: VerifierContext): Verifier {
  const [program] = spec.command;
  const place = `The server ${path.basename(program)}`;
  return {
    id: `mcp:${path.basename(program)}:${spec.tool}`,
    async verify(candidate, signal) {
      const { launch, values } = launchOf(spec, candidate, directory, place);
      const start = processLink(launch);
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(spec.timeoutMs)]);
      try {
        const client = await openMcp(
          (_, events) => start({ values, generations: {} }, events),
          deadline,
        );
        try {
          return await callTool(client, spec, candidate, place);
        } finally {
          await client.stop();
        }
      } catch (thrown) {
        signal.throwIfAborted();
        throw untold(thrown, candidate, place);
      }
    },
  };
}

async function callTool(client: McpClient, spec: McpSpec, candidate: Candidate, place: string) {
  if (!(await hasTool(client, spec.tool))) {
    throw cannotTell(
      candidate,
      'invalid-answer',
      `${place} has no tool ${spec.tool}`,
      'Name one of its tools in the policy: a read-only one that uses the credential.',
    );
  }
  const answer = await client.request('tools/call', {
    name: spec.tool,
    arguments: spec.arguments,
  });
  const rejected = (how: string) => ({
    ok: false as const,
    kind: 'rejected' as const,
    reason: `${place} answered ${spec.tool} ${how}`,
  });
  const asksBack = () =>
    cannotTell(
      candidate,
      'invalid-answer',
      `${place} wants more of its caller before it answers ${spec.tool}`,
      'Name a tool in the policy that answers at once.',
    );
  if ('error' in answer) {
    if (ofTheCall.has(answer.error.code)) throw asksBack();
    return rejected(`with error ${answer.error.code}`);
  }
  const { resultType } = answer.result;
  if (resultType !== undefined && resultType !== 'complete') throw asksBack();
  const problem = canaryProblem(answer.result, spec.expect);
  if (problem === null) return { ok: true as const };
  return {
    ok: false as const,
    kind: 'rejected' as const,
    reason: `${place}: ${spec.tool} ${problem}`,
  };
}

async function hasTool(client: McpClient, tool: string): Promise<boolean> {
  let cursor: unknown;
  for (let page = 0; page < pagesMost; page += 1) {
    const answer = await client.request('tools/list', cursor === undefined ? {} : { cursor });
    if ('error' in answer) return false;
    const { tools, nextCursor } = answer.result;
    const names = Array.isArray(tools) ? (tools as { name?: unknown }[]) : [];
    if (names.some(({ name }) => name === tool)) return true;
    if (typeof nextCursor !== 'string') return false;
    cursor = nextCursor;
  }
  return false;
}

/** The launch with references in place of `${field}`s, which the gate fills in as it does for any server. */
function launchOf(
  { command, env }: McpSpec,
  candidate: Candidate,
  directory: string,
  place: string,
): {
  readonly launch: Extract<Launch, { kind: 'process' }>;
  readonly values: ReadonlyMap<string, Secret>;
} {
  const values = new Map<string, Secret>();
  const fill = (text: string) =>
    text.replaceAll(/\$\{([^{}|]*)(\|url)?\}/g, (_, field: string, filter: string | undefined) => {
      const reference = `local://check#${field}`;
      values.set(reference, fieldOf(candidate, field, place));
      return `{{${reference}${filter ?? ''}}}`;
    });
  const named =
    env ?? Object.fromEntries(Object.keys(candidate.fields).map((name) => [name, `\${${name}}`]));
  for (const name of Object.keys(named)) refuseReserved(candidate, name, place);
  const [program, ...args] = command;
  return {
    launch: {
      kind: 'process',
      command: program.includes('/') ? path.resolve(directory, program) : program,
      args: args.map(fill),
      cwd: directory,
      env: {
        ...minimalEnvironment(),
        ...Object.fromEntries(Object.entries(named).map(([name, text]) => [name, fill(text)])),
      },
      files: [],
    },
    values,
  };
}

const untellable: readonly ErrorCode[] = ['unavailable', 'timeout', 'not-found', 'invalid-answer'];

/** What became of the server says nothing about the credential; its own words are not repeated. */
function untold(thrown: unknown, candidate: Candidate, place: string) {
  const error = asRotatedError(thrown, 'none', candidate.secret);
  if (error.secret !== undefined || !untellable.includes(error.code)) return error;
  const code = error.code === 'not-found' ? 'unavailable' : error.code;
  return cannotTell(
    candidate,
    code as 'unavailable' | 'timeout' | 'invalid-answer',
    `${place} cannot be tried: ${error.message.replace(/\.$/, '')}`,
    'Run its command by hand: it has to start, answer the handshake and the tool.',
  );
}
