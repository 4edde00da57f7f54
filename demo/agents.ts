/** The demo's agents as one process: real MCP clients that call the report tool without pause, and count every answer. */
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import type { AgentsMessage } from './messages.ts';
import { onStop, say } from './process.ts';

/** Each has an MCP connection of its own; every other one speaks the older revision of the protocol. */
const quickAgents = 4;
const slowAgents = 4;
/** A slow report runs so long in the database: longer than a reload, so that reloads meet calls in flight. */
const slowMs = 700;
/** Keeps the demo from filling a small machine. */
const restMs = 20;
const tellEveryMs = 200;

const [url] = process.argv.slice(2);
if (url === undefined) throw new Error('usage: agents.ts URL');

const regions = ['north', 'south', 'east', 'west'] as const;
const totals = { calls: 0, failed: 0, inFlight: 0 };
let firstFailure: string | null = null;
const stopping = new AbortController();

const agents = Array.from({ length: quickAgents + slowAgents }, (_, index) =>
  work(index, index < quickAgents ? 0 : slowMs),
);
const teller = setInterval(tell, tellEveryMs);

onStop(async () => {
  stopping.abort();
  await Promise.all(agents);
  clearInterval(teller);
  tell();
});

async function work(index: number, delayMs: number): Promise<void> {
  const client = new Client(
    { name: `demo-agent-${index}`, version: '1.0.0' },
    { versionNegotiation: { mode: index % 2 === 0 ? 'auto' : 'legacy' } },
  );
  await client.connect(new StreamableHTTPClientTransport(new URL(url ?? '')));
  for (let turn = index; !stopping.signal.aborted; turn += 1) {
    await call(client, regions[turn % regions.length] ?? 'north', delayMs);
    await new Promise((resolve) => setTimeout(resolve, restMs));
  }
  await client.close();
}

async function call(client: Client, region: string, delayMs: number): Promise<void> {
  totals.inFlight += 1;
  try {
    const result = await client.callTool({
      name: 'query_report',
      arguments: { region, delayMs },
    });
    if (result.isError === true) throw new Error(JSON.stringify(result.content));
    // An empty or foreign answer is a failed call too.
    const answer = result.structuredContent as { region?: unknown; months?: unknown } | undefined;
    if (answer?.region !== region || answer.months !== 10) throw new Error('a wrong answer');
  } catch (error) {
    totals.failed += 1;
    firstFailure ??= error instanceof Error ? error.message : String(error);
  } finally {
    totals.calls += 1;
    totals.inFlight -= 1;
  }
}

function tell(): void {
  say<AgentsMessage>({ kind: 'calls', ...totals, firstFailure });
}
