import { parsePolicyText } from './parse.ts';
import { renderProblem } from './render.ts';
import { z } from 'zod';
const ctx = { backends: new Set(['local']), providers: ['generated','postgres','redis','exec','operator'], providerSchema: (u: string) => u==='generated' ? z.strictObject({kind: z.enum(['random','hmac']), length: z.int().optional()}) : ['postgres','redis','exec','operator'].includes(u) ? z.looseObject({}) : undefined };
const good = `secrets:
  reports-db:
    tags: [mcp, database]
    provider: { use: postgres, admin: local://admin/postgres, roles: [reports_a, reports_b], grant: reports_read }
    backend: { ref: local://mcp/reports-db, fields: { PGUSER: username, PGPASSWORD: password } }
    schedule: { cron: "0 3 * * 0", timezone: Europe/Berlin, splay: 10m, window: { days: [sat, sun], from: "01:00", to: "06:00" } }
    grace: 24h
    verify:
      - provider
      - exec: { command: [./check-report, --dry-run] }
    consumers:
      - file: { path: /run/reports/db.json, format: json, then: { signal: SIGHUP, pidfile: /run/reports.pid } }
        report: { http: "http://127.0.0.1:9090/generation" }
    adoption: { timeout: 15m, then: wait }
    failure: { attempts: 5, pauseAfter: 3 }
    notify: [ops-hook]
notifiers:
  ops-hook: { http: "https://hooks.example.com/x" }
`;
console.log(JSON.stringify(parsePolicyText(good,'schedules/x.yaml',ctx),null,1));
const bad = `secrets:
  Reports_DB:
    provider: { use: postgress }
    backend: vault://x
    every: 30
  a:
    provider: { use: generated, kindd: random, length: x }
    backend: local://../b
    grace: 24h
    schedule: { cron: "0 0 31 2 *", timezone: Europe/Berln, windw: 3, freeze: { from: 2026-02-31, to: 2026-01-01 } }
    verify: [provder, { http: { url: "ftp://x", headers: { a: 1 } } }]
    consumers: [ { file: {} }, { signal: { signal: HUP } }, { http: x, exec: "./foo bar" } ]
    password: hunter2
    adoption: { timeout: 1x, then: waitt }
  b:
    provider: { use: generated, kind: hmac, lenght: 3 }
    backend: hunter2hunter2
    every: 1h
    grace: 2h
    escrow: yes
    notify: [hook]
    consumers:
    cron: "1 * * * *"
notifierss: 3
`;
for (const p of parsePolicyText(bad,'schedules/x.yaml',ctx).problems) console.log(renderProblem(p,{width:100}));
