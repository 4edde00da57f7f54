/** How the demo tells what happens, for somebody who sees it the first time. */
import { agentCount } from './messages.ts';
import type { Counts, Scene, Turn } from './play.ts';
import { everySeconds, serverPackage } from './stage.ts';

/** The lines of one scene; some scenes say nothing. */
export function tell(scene: Scene): readonly string[] {
  switch (scene.kind) {
    case 'stage':
      return [
        '',
        `A database login that changes every ${everySeconds} seconds, under MCP servers that are called without pause.`,
        '',
      ];
    case 'issuer':
      return [cast('issuer', `a real PostgreSQL on port ${scene.port}; two logins take turns`)];
    case 'daemon':
      return [
        cast('daemon', `rotated itself, with the policy ${scene.policy}`),
        cast('', `look inside: npm run -s rotate -- status --state ${scene.state}`),
      ];
    case 'first-login':
      return [cast('login', `made: ${scene.login.user}, generation ${scene.login.generation}`)];
    case 'agents':
      return [
        cast(
          'agents',
          `${agentCount} MCP clients that never stop calling, some with slow questions`,
        ),
        cast('servers', `each starts its own: rotate wrap -- ${serverPackage}`),
        cast('', 'the published package as it is; it reads its login once, when it starts'),
        '',
        'So a new login needs a new server process ("green") beside the old one ("blue"), behind the agents\' back.',
        'Waiting for the schedule. Ctrl-C ends everything.',
      ];
    case 'begins':
      return [
        '',
        `── rotation ${scene.rotation}: time for a new login  (${said(scene.counts)}; ${scene.old.user} is in use)`,
      ];
    case 'phase':
      return phase(scene.phase, scene.at, scene.old.user, scene.old.generation + 1);
    case 'flipped':
      return [
        line(
          scene.at,
          'flip',
          `agent ${scene.agent} is answered by green, as ${scene.login}; ${calls(scene.inFlight)} on blue, as ${scene.old.user}, undisturbed`,
        ),
      ];
    case 'drained':
      return [
        line(
          scene.at,
          'drained',
          `agent ${scene.agent}: blue has answered what it held (${scene.servedByOld}), and may go`,
        ),
      ];
    case 'tried-old':
      return [
        line(
          Date.now(),
          'tried',
          scene.attempt.accepted
            ? `the old login of ${scene.old.user} STILL WORKS`
            : `we try the old login ourselves. PostgreSQL: ${scene.attempt.message}`,
        ),
      ];
    case 'ended':
      return ended(scene.turn, scene.counts);
    case 'counts':
      return [`          … ${said(scene.counts)}`];
    case 'trouble':
      return [`!! ${scene.message}`];
    case 'stopping':
      return ['', 'Stopping: agents and their servers, daemon, database, in that order …'];
    case 'stopped':
      return ['Everything has ended, and the folder of the demo is gone.'];
    default:
      return scene satisfies never;
  }
}

export function said({ calls, failed, firstFailure }: Counts): string {
  const why = firstFailure === null ? '' : `, the first: ${firstFailure}`;
  return `${calls.toLocaleString('en')} calls so far, ${failed} failed${why}`;
}

/** What a phase means here. A phase is a fact that is already on disk: after a crash the daemon goes on from it. */
function phase(name: string, at: number, old: string, generation: number): readonly string[] {
  const meanings: Readonly<Record<string, string>> = {
    minted: `PostgreSQL has a new password for the other login. Nobody uses it; ${old} works on`,
    staged: 'written to the encrypted store as "pending", beside the current one',
    verified:
      'read back from the store and tried: at the database, and by a throw-away server with one real query',
    promoted: "it is the current one now; each agent's gate is told, and starts green beside blue",
    adopted: `every gate reports generation ${generation}, and that blue has stopped. ${old} gets a short grace`,
    retiring: `the grace is over: ${old} is locked at the database and its sessions are ended`,
    retired: `${old} is gone, and proven gone`,
  };
  const meaning = meanings[name];
  return meaning === undefined ? [] : [line(at, name, meaning)];
}

function ended(turn: Turn, counts: Counts): readonly string[] {
  const overlap =
    turn.overlapMs === null ? '' : ` Both logins worked for ${seconds(turn.overlapMs)}.`;
  const verdict = turn.oldRefused && turn.adopted ? 'done' : 'NOT AS IT SHOULD BE';
  return [`   ${verdict}: ${said(counts)}.${overlap}`];
}

function calls(count: number): string {
  if (count === 0) return 'no call runs';
  return count === 1 ? '1 call still runs' : `${count} calls still run`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`;
}

function cast(who: string, what: string): string {
  return `  ${who.padEnd(8)} ${what}`;
}

function line(at: number, word: string, meaning: string): string {
  const time = new Date(at).toTimeString().slice(0, 8);
  return `  ${time}  ${word.padEnd(9)} ${meaning}`;
}
