/** What the outside sees of the daemon: logs without values, health, metrics. */
import { afterEach, describe, expect, test } from 'vitest';
import { RotatedError } from '../errors.ts';
import type { RotationView, Service, ServiceStatus } from '../rotation/service.ts';
import { createRedactor } from '../secret/redactor.ts';
import { Secret } from '../secret/secret.ts';
import { parseListen } from '../listen.ts';
import { type HealthServer, serveHealth } from './health.ts';
import { createLog } from './logs.ts';
import { createMetrics } from './metrics.ts';

const canary = 'canary-7d1f4c9be2';
const clock = {
  now: () => 1_000_000,
  monotonicMs: () => 0,
  bootId: 'b',
  sleep: () => Promise.resolve(),
};

describe('log lines', () => {
  for (const pretty of [false, true]) {
    test(`hold no known value in any form, ${pretty ? 'pretty' : 'JSON'}`, async () => {
      const redactor = createRedactor();
      redactor.add(new Secret(canary));
      let text = '';
      const write = (line: string) => {
        text += line;
      };
      const log = await createLog({ level: 'info', pretty, redactor, write });
      log.info({ secret: 'reports-db', url: `https://u:${canary}@h/` }, 'plain');
      log.warn({ nested: [{ deep: Buffer.from(canary).toString('base64') }] }, 'encoded');
      log.error({ error: new Error(`refused: ${canary}`) }, 'thrown');
      log.error({ box: new Secret(canary), password: 'never-registered' }, 'boxed');
      log.error({ [canary]: 1 }, `even in a message ${canary}`);
      expect(text).not.toContain(canary);
      expect(text).not.toContain(Buffer.from(canary).toString('base64'));
      expect(text).not.toContain('never-registered');
      // The positive control: what is no value is there.
      expect(text).toContain('reports-db');
      expect(text).toContain('thrown');
    });
  }

  test('are one JSON object each, with level, time and message', async () => {
    const lines: string[] = [];
    const redactor = createRedactor();
    const log = await createLog({
      level: 'warn',
      pretty: false,
      redactor,
      write: (line) => lines.push(line),
    });
    log.info({}, 'not shown');
    log.warn({ a: 1 }, 'shown');
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ level: 'warn', message: 'shown', a: 1 });
  });
});

describe('the health port', () => {
  let server: HealthServer | null = null;
  afterEach(() => server?.close());

  async function start(alive: string | null, ready: string | null) {
    server = await serveHealth('127.0.0.1:0', {
      alive: () => alive,
      ready: () => ready,
      metrics: { contentType: 'text/plain', render: async () => 'rotated_up 1\n' },
    });
    return (path: string, init?: RequestInit) => fetch(`http://${server?.address}${path}`, init);
  }

  test('is 200 while alive and ready, and answers nothing but GET', async () => {
    const get = await start(null, null);
    expect((await get('/healthz')).status).toBe(200);
    expect((await get('/readyz?x=1')).status).toBe(200);
    expect(await (await get('/metrics')).text()).toBe('rotated_up 1\n');
    expect((await get('/')).status).toBe(404);
    expect((await get('/healthz', { method: 'POST' })).status).toBe(405);
  });

  test('says why it is not ready, and is not ready while it is not alive', async () => {
    const get = await start('the lease is not renewed', null);
    expect((await get('/healthz')).status).toBe(503);
    const ready = await get('/readyz');
    expect(ready.status).toBe(503);
    expect(await ready.json()).toEqual({ ok: false, reason: 'the lease is not renewed' });
  });

  test('a port in use is an error that says so', async () => {
    await start(null, null);
    const second = serveHealth(server?.address ?? '', {
      alive: () => null,
      ready: () => null,
      metrics: { contentType: 'text/plain', render: async () => '' },
    });
    await expect(second).rejects.toMatchObject({ code: 'refused' });
  });

  test('listens on this machine alone unless told otherwise', () => {
    expect(parseListen('9464')).toEqual({ host: '127.0.0.1', port: 9464 });
    expect(parseListen('0.0.0.0:1')).toEqual({ host: '0.0.0.0', port: 1 });
    expect(parseListen('[::1]:80')).toEqual({ host: '::1', port: 80 });
    for (const wrong of ['', 'x', ':1', '1.2.3.4:', '1:70000', 'http://x:1', '::1:80']) {
      expect(() => parseListen(wrong), wrong).toThrow(RotatedError);
    }
  });
});

describe('metrics', () => {
  const auditSinks = async () => [
    { name: 'file:/a', behind: 0, failing: null },
    { name: 'exec:ship', behind: 7, failing: { since: 1 } },
  ];

  test('show each secret, phase and debt, and count each phase once', async () => {
    const status: ServiceStatus = {
      secrets: [
        {
          secret: 'reports-db',
          tags: [],
          provider: 'postgres',
          backend: 'local://reports-db',
          generation: 4,
          currentSince: 940_000,
          ageMs: 60_000,
          dueAt: 2_000_000,
          paused: { reason: 'x', since: 1 },
          lost: false,
          failures: 2,
          active: rotation([['planned', 0]], null),
          debts: [
            {
              id: 'd1',
              secret: 'reports-db',
              rotation: 'r0',
              kind: 'revoke',
              ref: 'a',
              attempts: 1,
              createdAt: 700_000,
              nextInMs: null,
              needsPerson: false,
              lastError: null,
              instructions: null,
            },
          ],
          instances: [],
          lastResult: null,
          warnings: [],
        },
      ],
      warnings: ['one'],
      owner: null,
    };
    const service = { status: async () => status } as unknown as Service;
    const metrics = createMetrics({ service, auditSinks, clock, version: '1.2.3' });
    metrics.heartbeat();
    metrics.step(rotation([['planned', 0]], null));
    metrics.step(
      rotation(
        [
          ['planned', 0],
          ['minting', 2_000],
        ],
        null,
      ),
    );
    const done = rotation(
      [
        ['planned', 0],
        ['minting', 2_000],
        ['retired', 5_000],
      ],
      5_000,
    );
    metrics.step(done);
    const text = await metrics.render();
    for (const line of [
      'rotated_build_info{version="1.2.3",node="' + process.versions.node + '"} 1',
      'rotated_heartbeat_timestamp_seconds 1000',
      'rotated_secret_age_seconds{secret="reports-db"} 60',
      'rotated_secret_due_timestamp_seconds{secret="reports-db"} 2000',
      'rotated_secret_paused{secret="reports-db"} 1',
      'rotated_secret_failures{secret="reports-db"} 2',
      'rotated_secret_debts{secret="reports-db",kind="revoke"} 1',
      'rotated_debt_oldest_age_seconds 300',
      'rotated_rotations_active{phase="planned"} 1',
      'rotated_warnings 1',
      'rotated_audit_sink_behind_lines{sink="exec:ship"} 7',
      'rotated_audit_sink_failing{sink="file:/a"} 0',
      'rotated_audit_sink_failing{sink="exec:ship"} 1',
      'rotated_phase_duration_seconds_sum{phase="planned"} 2',
      'rotated_phase_duration_seconds_count{phase="planned"} 1',
      'rotated_phase_duration_seconds_sum{phase="minting"} 3',
      'rotated_rotations_ended_total{phase="retired",kind="scheduled"} 1',
    ]) {
      expect(text).toContain(`${line}\n`);
    }
  });

  test('two deployments in one process do not share a registry', () => {
    const service = {} as Service;
    createMetrics({ service, auditSinks, clock, version: 'a' });
    expect(() => createMetrics({ service, auditSinks, clock, version: 'b' })).not.toThrow();
  });
});

function rotation(phases: readonly [string, number][], endedAt: number | null): RotationView {
  return {
    id: 'r1',
    secrets: ['reports-db'],
    phase: phases.at(-1)?.[0] ?? '',
    kind: 'scheduled',
    mode: null,
    actor: { id: 'rotated', channel: 'schedule', proven: true },
    reason: null,
    startedAt: 0,
    endedAt,
    phases: phases.map(([phase, at]) => ({ phase, at })),
    parked: null,
    waitsFor: null,
    nextInMs: null,
    attempts: 0,
    lastError: null,
    overlapMs: null,
    deadAt: {},
    unconfirmedConsumers: [],
  };
}
