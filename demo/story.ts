/** How the demo tells what happens, for somebody who sees it the first time. */
import type { Counts, Scene, Turn } from './play.ts';
import { everySeconds } from './stage.ts';

/** The lines of one scene; some scenes say nothing. */
export function tell(scene: Scene): readonly string[] {
  switch (scene.kind) {
    case 'stage':
      return [
        '',
        `A database login that changes every ${everySeconds} seconds, while everybody uses it.`,
        '',
      ];
    case 'issuer':
      return [cast('issuer', `a real PostgreSQL on port ${scene.port}; two logins take turns`)];
    case 'server':
      return [cast('server', `a real MCP server, ${scene.url}; its tool asks the database`)];
    case 'daemon':
      return [
        cast('daemon', `rotated itself, with the policy ${scene.policy}`),
        cast('', `look inside: npm run -s rotate -- status --state ${scene.state}`),
      ];
    case 'first-login':
      return [cast('login', `the first one is made: ${scene.user}, generation 1`)];
    case 'agents':
      return [
        cast('agents', 'real MCP clients that never stop calling, some with slow questions'),
        '',
        'Waiting for the schedule. Ctrl-C ends everything.',
      ];
    case 'begins':
      return [
        '',
        `── rotation ${scene.rotation}: time for a new login  (${said(scene.counts)}; ${scene.old.user} is in use)`,
      ];
    case 'phase':
      return phase(scene.phase, scene.at, scene.old.user, scene.old.generation + 1);
    case 'switched':
      if (scene.login.generation === 1) return [];
      return [
        line(
          scene.at,
          'switched',
          `the server asks with ${scene.login.user} from now on; ${scene.inFlight} calls still run on the old login, undisturbed`,
        ),
      ];
    case 'drained':
      return [
        line(
          scene.at,
          'drained',
          'the last of those calls has its answer; their connections close',
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
      return ['', 'Stopping: agents, daemon, server, database, in that order …'];
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
    verified: 'read back from the store and tried at the database: it works, with the same rights',
    promoted: "it is the current one now; the server's file is rewritten and the server told",
    adopted: `the server reports, signed, that it serves generation ${generation}. ${old} gets a short grace`,
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
