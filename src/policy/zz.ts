import { builtInProviders } from '../../providers/index.ts';
import { loadPolicies } from './load.ts'; import { renderProblem } from './render.ts';

const r = builtInProviders(); const m = new Map(await Promise.all(r.ids.map(async id=>[id,(await r.load(id,{directory:'.'})).options] as const)));
for (const f of ["schedules"]) { const x = await loadPolicies(f,{backends:new Set(["local"]),providers:r.ids,providerSchema:u=>m.get(u)}); console.log(x.files,x.policies.length); for(const p of x.problems) console.log(renderProblem(p)); }
