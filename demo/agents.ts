/** The demo's agents as one process: real MCP clients, each with a wrapped server of its own, that call without pause and count. */
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { agentCount, type AgentsMessage } from './messages.ts';
import { onStop, say } from './process.ts';

/** A slow question runs so long in the database: there is always one under way when a server is replaced. */
const slowSeconds = 0.7;
/** What one agent asks at the same time. */
const paces = [0, slowSeconds, slowSeconds];
/** Keeps the demo from filling a small machine. */
const restMs = 20;
const tellEveryMs = 200;

/** The entry of the MCP server as it would stand in a client's config: `rotate wrap`, references, no secret. */
export interface AgentsSetting {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

interface Agent {
  readonly name: number;
  /** Whose answers come: PostgreSQL says which login each question ran under. */
  login: string | null;
  /** Questions without an answer, by number. */
  readonly open: Set<number>;
  /** After another login has answered: what was asked before that. */
  drain: { readonly old: string; readonly waiting: Set<number>; servedByOld: number } | null;
}

const [given] = process.argv.slice(2);
if (given === undefined) throw new Error('usage: agents.ts SETTING');
const { command, args, env } = JSON.parse(given) as AgentsSetting;

const regions = ['north', 'south', 'east', 'west'] as const;
const totals = { calls: 0, failed: 0, inFlight: 0 };
let firstFailure: string | null = null;
const stopping = new AbortController();

const clients = Promise.all(Array.from({ length: agentCount }, (_, index) => open(index + 1)));
const agents = clients.then((opened) =>
  Promise.all(opened.map((client, index) => live(index + 1, client))),
);
let teller: NodeJS.Timeout | undefined;

onStop(async () => {
  stopping.abort();
  await agents;
  clearInterval(teller);
  tell();
});

// The first word is that all are at work.
await clients;
teller = setInterval(tell, tellEveryMs);

/** Connected, and its first question answered. */
async function open(name: number): Promise<Client> {
  const client = new Client(
    { name: `demo-agent-${name}`, version: '1.0.0' },
    { versionNegotiation: { mode: name % 2 === 0 ? 'auto' : 'legacy' } },
  );
  await client.connect(
    new StdioClientTransport({ command, args: [...args], env: { ...env }, stderr: 'inherit' }),
  );
  await ask(client, regions[0], 0);
  return client;
}

async function live(name: number, client: Client): Promise<void> {
  const agent: Agent = { name, login: null, open: new Set(), drain: null };
  const numbers = { last: 0 };
  await Promise.all(paces.map((seconds) => work(client, agent, numbers, seconds)));
  await client.close();
}

async function work(
  client: Client,
  agent: Agent,
  numbers: { last: number },
  seconds: number,
): Promise<void> {
  while (!stopping.signal.aborted) {
    numbers.last += 1;
    await call(client, agent, numbers.last, seconds);
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
}

async function call(client: Client, agent: Agent, number: number, seconds: number): Promise<void> {
  const region = regions[number % regions.length] ?? 'north';
  totals.inFlight += 1;
  agent.open.add(number);
  let login: string | null = null;
  try {
    login = await ask(client, region, seconds);
  } catch (error) {
    totals.failed += 1;
    firstFailure ??= error instanceof Error ? error.message : String(error);
  }
  agent.open.delete(number);
  totals.calls += 1;
  totals.inFlight -= 1;
  note(agent, number, login);
}

/** Returns the login that the question ran under. An error, an empty answer and a foreign one are all failed calls. */
async function ask(client: Client, region: string, seconds: number): Promise<string> {
  const sql = `
    SELECT region, count(*)::int AS months, current_user AS login
    FROM report, (SELECT pg_sleep(${seconds})) AS pause WHERE region = '${region}' GROUP BY region`;
  const { content, isError } = await client.callTool({ name: 'query', arguments: { sql } });
  const text = content.map((part) => (part.type === 'text' ? part.text : '')).join('');
  if (isError === true) throw new Error(text);
  const [row] = JSON.parse(text) as { region?: unknown; months?: unknown; login?: unknown }[];
  if (row?.region !== region || row.months !== 10 || typeof row.login !== 'string') {
    throw new Error(`a wrong answer: ${text.slice(0, 200)}`);
  }
  return row.login;
}

/** A server is replaced between two questions: what was asked before the first that the new one answers is the old one's. */
function note(agent: Agent, number: number, login: string | null): void {
  const { drain } = agent;
  if (drain?.waiting.delete(number) === true) {
    if (login === drain.old) drain.servedByOld += 1;
    if (drain.waiting.size === 0) endDrain(agent);
    return;
  }
  if (login === null || login === agent.login) return;
  const old = agent.login;
  agent.login = login;
  if (old === null) return;
  const waiting = new Set([...agent.open].filter((one) => one < number));
  agent.drain = { old, waiting, servedByOld: 0 };
  const inFlight = waiting.size;
  say<AgentsMessage>({ kind: 'flipped', agent: agent.name, login, inFlight, at: Date.now() });
  if (inFlight === 0) endDrain(agent);
}

function endDrain(agent: Agent): void {
  const servedByOld = agent.drain?.servedByOld ?? 0;
  agent.drain = null;
  say<AgentsMessage>({ kind: 'drained', agent: agent.name, servedByOld, at: Date.now() });
}

function tell(): void {
  say<AgentsMessage>({ kind: 'calls', ...totals, firstFailure });
}
