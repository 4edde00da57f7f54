/** The cases in which something goes wrong: lost answers, missing rights, silence, malice, and what may be printed of it. */
import type { ContractCase } from './contract-case.ts';
import { check, failureOf, type Kit, printedForms } from './contract-kit.ts';
import type { ContractWorld, Variant } from './contract-world.ts';
import type { Minted, MintRequest, ProviderSession } from './provider.ts';

const lacks =
  (fault: keyof ContractWorld, why: string) =>
  (_traits: unknown, world: ContractWorld): string | null =>
    world[fault] === undefined ? why : null;

/** What is prompt to a person, with room for a machine under load. */
const promptMs = 10_000;

export const faultCases: readonly ContractCase[] = [
  {
    name: 'a mint whose answer is lost is recovered to exactly one credential',
    inapplicable: (traits, world) =>
      traits.strategy === 'operator'
        ? 'a person makes the keys'
        : lacks('loseAnswer', 'no answer can be lost')(traits, world),
    async run(kit) {
      const session = await kit.open();
      const before = await kit.list(session);
      const request = await kit.request(session);
      const lossy = await kit.world.loseAnswer?.();
      if (lossy == null) {
        await session.mint(request, kit.signal);
      } else {
        const faulty = await kit.open(lossy);
        const error = await failureOf(() => faulty.mint(request, kit.signal), 'the lost mint');
        check(error.effect === 'unknown', `its effect is unknown, not ${error.effect}`);
      }
      if (kit.traits.crashClass === 'blind') return;
      const minted = await recover(kit, session, request);
      const verdict = await session.verify(minted, kit.signal);
      check(verdict.ok, 'the recovered credential is accepted');
      if (session.list === undefined) return;
      const after = await kit.list(session);
      check(
        after.length === before.length + 1,
        `there is one more, not ${after.length - before.length}`,
      );
      check(
        after.some(({ ref }) => ref === minted.ref),
        'it is the one that is listed',
      );
    },
  },
  {
    name: 'a credential that is refused at first verifies within the settle time',
    inapplicable: lacks('lagging', 'a new credential works at once'),
    async run(kit) {
      const lagging = await kit.world.lagging?.();
      check(lagging !== undefined, 'the issuer can lag');
      const session = await kit.open(lagging);
      const minted =
        lagging.supply === undefined
          ? await session.mint(await kit.request(session), kit.signal)
          : await lagging.supply();
      const first = await session.verify(minted, kit.signal);
      check(!first.ok && first.kind === 'rejected', 'it is refused at first, by a verdict');
      const { clock } = lagging.context;
      const until = clock.monotonicMs() + Math.max(1, kit.traits.limits.settleSeconds) * 1_000;
      for (let isAccepted = false; !isAccepted; ) {
        check(clock.monotonicMs() < until, 'it is accepted before the settle time is over');
        await clock.sleep(20, kit.signal);
        isAccepted = (await session.verify(minted, kit.signal)).ok;
      }
    },
  },
  {
    name: 'missing rights show before the mint',
    inapplicable: lacks('denied', 'there is no admin credential'),
    async run(kit) {
      const findings = await (await kit.open(await kit.world.denied?.())).check(kit.signal);
      check(
        findings.some(({ level, mend }) => level === 'red' && mend !== undefined),
        'a red finding says what is missing and how to mend it',
      );
    },
  },
  {
    name: 'a mint without the right is denied and changes nothing',
    inapplicable: lacks('denied', 'there is no admin credential'),
    async run(kit) {
      const session = await kit.open();
      const before = JSON.stringify(await kit.list(session));
      const request = await kit.request(session);
      const denied = await kit.open(await kit.world.denied?.());
      const error = await failureOf(() => denied.mint(request, kit.signal), 'the denied mint');
      check(error.code === 'denied', `its code is denied, not ${error.code}`);
      check(error.effect === 'none', `its effect is none, not ${error.effect}`);
      check(error.next !== '', 'the next step is told');
      check(JSON.stringify(await kit.list(session)) === before, 'the list is as it was');
    },
  },
  {
    name: 'hostile answers are refused',
    inapplicable: lacks('hostile', 'nobody answers'),
    async run(kit) {
      const session = await kit.open();
      const minted = await kit.mint(session);
      const request = await kit.request(session, minted);
      for (const variant of (await kit.world.hostile?.()) ?? []) {
        // Some keep the line open and say nothing more.
        const hostile = await kit.open(variant, 1_000);
        const by = `answered by ${variant.name}`;
        const [error, isAccepted] = await Promise.all([
          kit.traits.strategy === 'operator'
            ? null
            : failureOf(() => hostile.mint(request, kit.signal), `a mint ${by}`),
          hostile.verify(minted, kit.signal).then(
            ({ ok }) => ok,
            () => false,
          ),
          hostile.list === undefined ? null : failureOf(() => kit.list(hostile), `a list ${by}`),
        ]);
        check(printedForms(error).length < 20_000, `the error of a mint ${by} is of a sane size`);
        check(!isAccepted, `no credential is accepted where the check is ${by}`);
        check(!('polluted' in {}), `no prototype is changed by what is ${by}`);
      }
    },
  },
  {
    name: 'an abort is honoured promptly',
    inapplicable: lacks('silent', 'no call waits for anybody'),
    async run(kit) {
      const { minted, silent } = await silence(kit, 60_000);
      const { clock } = kit.world.context;
      const startedAt = clock.monotonicMs();
      const error = await failureOf(
        () => silent.verify(minted, AbortSignal.timeout(100)),
        'an aborted call',
      );
      check(error.code === 'timeout', `its code is timeout, not ${error.code}`);
      check(clock.monotonicMs() - startedAt < promptMs, 'it ends soon after the abort');
    },
  },
  {
    name: 'a call that nobody answers ends at its deadline',
    inapplicable: lacks('silent', 'no call waits for anybody'),
    async run(kit) {
      const { minted, silent } = await silence(kit, 200);
      const { clock } = kit.world.context;
      const startedAt = clock.monotonicMs();
      const error = await failureOf(() => silent.verify(minted, kit.signal), 'a call into silence');
      check(error.code === 'timeout', `its code is timeout, not ${error.code}`);
      check(clock.monotonicMs() - startedAt < promptMs, 'it ends soon after the deadline');
    },
  },
  {
    name: 'an issuer that cannot be reached is an error, not a verdict',
    inapplicable: lacks('unreachable', 'no issuer is called'),
    async run(kit) {
      const minted = await kit.mint(await kit.open());
      const gone = await kit.open(await kit.world.unreachable?.());
      const error = await failureOf(() => gone.verify(minted, kit.signal), 'a verify of nobody');
      check(error.effect === 'none', 'its effect is none');
    },
  },
  {
    name: 'nothing that is printed holds a secret value',
    inapplicable: () => null,
    async run(kit) {
      const printed = await everythingPrinted(kit);
      const values = kit.secretValues();
      check(values.length > 0, 'there is a value to look for');
      const forms = values.flatMap((value) => [
        value,
        encodeURIComponent(value),
        JSON.stringify(value).slice(1, -1),
        Buffer.from(value).toString('base64'),
      ]);
      for (const { from, text } of printed) {
        check(
          forms.every((form) => !text.includes(form)),
          `what ${from} printed holds no secret value`,
        );
      }
    },
  },
];

/** What the rotation machine would do for this crash class. */
async function recover(kit: Kit, session: ProviderSession, request: MintRequest): Promise<Minted> {
  if (kit.traits.crashClass !== 'listable') return session.mint(request, kit.signal);
  const known = new Set(request.inventory.map(({ ref }) => ref));
  const prefix = request.name.slice(0, request.name.lastIndexOf('-') + 1);
  const orphans = (await kit.list(session)).filter(
    ({ ref, name }) => !known.has(ref) && name?.startsWith(prefix) === true,
  );
  check(orphans.length === 1, `one orphan carries our name, not ${orphans.length}`);
  for (const { ref } of orphans) await session.revoke(ref, kit.signal);
  return session.mint({ ...request, name: `${prefix}2` }, kit.signal);
}

async function silence(
  kit: Kit,
  deadlineMs: number,
): Promise<{ readonly minted: Minted; readonly silent: ProviderSession }> {
  const minted = await kit.mint(await kit.open());
  return { minted, silent: await kit.open(await kit.world.silent?.(), deadlineMs) };
}

interface Printed {
  readonly from: string;
  readonly text: string;
}

/** Every call in every fault that the subject can make: its error, or its answer where that is meant for people. */
async function everythingPrinted(kit: Kit): Promise<readonly Printed[]> {
  const { world, signal } = kit;
  const session = await kit.open();
  const minted = await kit.mint(session);
  const request = await kit.request(session, minted);
  const wrong = { ref: minted.ref, fields: world.wrong(minted.fields) };
  kit.learn(wrong.fields);
  const hostile = (await world.hostile?.()) ?? [];
  const variants: (Variant & { readonly name: string })[] = [
    { name: 'the issuer itself', options: world.options, context: world.context },
    ...named('missing rights', await world.denied?.()),
    ...named('silence', await world.silent?.()),
    ...named('no issuer', await world.unreachable?.()),
    ...hostile,
  ];
  const printed: Printed[] = [];
  for (const variant of variants) {
    await kit.learnAdmin(variant);
    const opened = await kit.open(variant, 500);
    const isHostile = hostile.includes(variant);
    const calls: readonly PrintedCall[] = [
      ['check', () => opened.check(signal)],
      ['verify a wrong value', () => opened.verify(wrong, signal)],
      // Nonsense is the same nonsense for every call; there are many kinds of it.
      ...(isHostile ? [] : others(kit, opened, minted)),
      // The answer is a credential, which nobody prints; its boxes must not print their values either.
      ['mint', () => opened.mint(request, signal)],
    ];
    const what = await Promise.all(
      calls.map(async ([call, run]) => ({
        from: `${call} with ${variant.name}`,
        text: printedForms(await run().catch((error: unknown) => error)),
      })),
    );
    printed.push(...what);
  }
  return printed;
}

type PrintedCall = readonly [string, () => Promise<unknown>];

function others(kit: Kit, opened: ProviderSession, minted: Minted): readonly PrintedCall[] {
  const { signal } = kit;
  return [
    ['verify', () => opened.verify(minted, signal)],
    ['list', () => kit.list(opened)],
    ['resolve', async () => (await opened.resolve?.(minted.fields, signal)) ?? null],
    ['revoke', () => opened.revoke('never-existed', signal)],
  ];
}

function named(name: string, variant: Variant | undefined): (Variant & { name: string })[] {
  return variant === undefined ? [] : [{ name, ...variant }];
}
