/** The cases of the provider contract: what the rotation machine relies on, claim by claim. */
import type { ContractCase } from './contract-case.ts';
import { faultCases } from './contract-faults.ts';
import { check, failureOf, type Kit } from './contract-kit.ts';
import type { ContractWorld } from './contract-world.ts';
import type { Credential, Minted, ProviderSession, Traits } from './provider.ts';
import { parseOptions } from './registry.ts';

const always = (): null => null;
const byPerson = ({ strategy }: Traits): string | null =>
  strategy === 'operator' ? 'a person makes and revokes the keys' : null;
/** The old credential dies with the mint, by the nature of the issuer. */
const inPlace = ({ strategy }: Traits): string | null =>
  ['roll-hard', 'refresh-chain'].includes(strategy) ? 'the issuer replaces keys in place' : null;
const unproven = ({ capabilities }: Traits): string | null =>
  capabilities.proof === 'safe' ? null : 'a revoked credential cannot be tried here';

export const contractCases: readonly ContractCase[] = [
  {
    name: 'options with an unknown key are refused',
    inapplicable: always,
    async run({ provider, world }) {
      const { options } = world;
      check(parseOptions(provider, options).ok, 'the options of the subject are valid');
      const more = { ...(options as object), thisKeyIsUnknown: 1 };
      check(!parseOptions(provider, more).ok, 'an unknown key is a mistake');
    },
  },
  {
    name: 'the same options give the same traits',
    inapplicable: always,
    async run({ provider, world, traits }) {
      const again = parseOptions(provider, world.options);
      const same = again.ok && JSON.stringify(again.traits) === JSON.stringify(traits);
      check(same, 'traits are a pure function of the options');
      check(traits.limits.liveMax >= 1, 'at least one credential may live');
      check(traits.leastPrivilege !== '', 'the rights of the admin credential are described');
    },
  },
  {
    name: 'a session does what its traits declare',
    inapplicable: always,
    async run(kit) {
      // Opening compares the two and throws `provider-broken`.
      const session = await kit.open();
      check(typeof session.mint === 'function', 'there is a session');
    },
  },
  {
    name: 'with the right admin credential nothing is red',
    inapplicable: always,
    async run(kit) {
      const findings = await (await kit.open()).check(kit.signal);
      const red = findings.filter(({ level }) => level === 'red').map(({ name }) => name);
      check(red.length === 0, `no red finding, but ${red.join(', ')}`);
    },
  },
  {
    name: 'a new credential verifies',
    inapplicable: always,
    async run(kit) {
      const session = await kit.open();
      await accepted(kit, session, await kit.mint(session), 'the new credential');
    },
  },
  {
    name: 'a mint leaves the old credential valid',
    inapplicable: inPlace,
    async run(kit) {
      const session = await kit.open();
      const old = await kit.mint(session);
      const fresh = await kit.mint(session, old);
      await accepted(kit, session, old, 'the old credential');
      await accepted(kit, session, fresh, 'the new credential');
    },
  },
  {
    name: 'two mints give two values and two ids',
    inapplicable: always,
    async run(kit) {
      const session = await kit.open();
      const first = await kit.mint(session);
      const second = await kit.mint(session, first);
      check(first.ref !== second.ref, 'their refs differ');
      const values = Object.entries(first.fields).filter(([name, value]) =>
        second.fields[name]?.equals(value),
      );
      check(values.length < Object.keys(first.fields).length, 'at least one field differs');
    },
  },
  {
    name: 'a wrong value is a verdict, not an exception',
    inapplicable: always,
    async run(kit) {
      const session = await kit.open();
      const { ref, fields } = await kit.mint(session);
      const verdict = await session.verify({ ref, fields: kit.world.wrong(fields) }, kit.signal);
      check(!verdict.ok && verdict.kind === 'rejected', 'the wrong value is rejected');
    },
  },
  {
    name: 'a repeated mint gives the same credential',
    inapplicable: ({ crashClass }) =>
      crashClass === 'chosen' || crashClass === 'token'
        ? null
        : 'a repeated mint makes a second key',
    async run(kit) {
      const session = await kit.open();
      const before = await kit.list(session);
      const request = await kit.request(session);
      const first = await session.mint(request, kit.signal);
      const again = await session.mint({ ...request, name: `${request.name}0` }, kit.signal);
      check(again.ref === first.ref, 'the ref is the same');
      await accepted(kit, session, again, 'what the repetition answered');
      if (session.list === undefined) return;
      check((await kit.list(session)).length === before.length + 1, 'there is one more, not two');
    },
  },
  {
    name: 'preparing changes nothing outside',
    inapplicable: ({ crashClass, capabilities }) =>
      crashClass === 'chosen' && capabilities.list
        ? null
        : 'nothing is prepared, or nothing can be listed',
    async run(kit) {
      const session = await kit.open();
      const before = JSON.stringify(await kit.list(session));
      await kit.request(session);
      check(JSON.stringify(await kit.list(session)) === before, 'the list is as it was');
    },
  },
  {
    name: 'at the limit a mint is refused and changes nothing',
    inapplicable: (traits) =>
      byPerson(traits) ?? (traits.limits.liveMax <= 20 ? null : 'the issuer sets no limit'),
    async run(kit) {
      const session = await kit.open();
      const minted: Minted[] = [];
      while (minted.length < kit.traits.limits.liveMax) {
        minted.push(await kit.mint(session, minted.at(-1) ?? null));
      }
      const before = JSON.stringify(await kit.list(session));
      const error = await failureOf(
        () => kit.mint(session, minted.at(-1) ?? null),
        'a mint beyond the limit',
      );
      check(error.code === 'limit-reached', `its code is limit-reached, not ${error.code}`);
      check(error.effect === 'none', `its effect is none, not ${error.effect}`);
      check(JSON.stringify(await kit.list(session)) === before, 'the list is as it was');
      for (const one of minted) await accepted(kit, session, one, 'what lived before');
    },
  },
  {
    name: 'a list shows what was minted, and not what was revoked',
    inapplicable: ({ capabilities }) => (capabilities.list ? null : 'the issuer cannot list'),
    async run(kit) {
      const session = await kit.open();
      const request = await kit.request(session);
      const { ref } = await session.mint(request, kit.signal);
      const shown = (await kit.list(session)).find((info) => info.ref === ref);
      check(shown !== undefined, 'the new credential is listed');
      check(shown.enabled, 'it is listed as enabled');
      if (kit.traits.capabilities.tag) check(shown.name === request.name, 'it carries our name');
      await session.revoke(ref, kit.signal);
      const left = (await kit.list(session)).some((info) => info.ref === ref);
      check(!left, 'the revoked credential is not listed');
    },
  },
  {
    name: "a credential's id is found by its value",
    inapplicable: ({ capabilities }) => (capabilities.resolve ? null : 'the issuer cannot tell'),
    async run(kit) {
      const session = await kit.open();
      const { ref, fields } = await kit.mint(session);
      const found = await session.resolve?.(fields, kit.signal);
      check(found === ref, 'the ref of the credential is found');
      const wrong = await session.resolve?.(kit.world.wrong(fields), kit.signal);
      check(wrong === null, 'a wrong value has no ref');
    },
  },
  {
    name: 'revoking twice succeeds',
    inapplicable: byPerson,
    async run(kit) {
      const session = await kit.open();
      const { ref } = await kit.mint(session);
      await session.revoke(ref, kit.signal);
      await session.revoke(ref, kit.signal);
    },
  },
  {
    name: 'revoking what never existed succeeds and harms nothing',
    inapplicable: byPerson,
    async run(kit) {
      const session = await kit.open();
      const minted = await kit.mint(session);
      for (const ref of ['never-existed', `${minted.ref}0`, '../..', "x'; DROP ROLE x; --"]) {
        await session.revoke(ref, kit.signal);
      }
      await accepted(kit, session, minted, 'the live credential');
    },
  },
  {
    name: 'a revoked credential is refused, its neighbour is not',
    inapplicable: (traits) => byPerson(traits) ?? unproven(traits),
    async run(kit) {
      const session = await kit.open();
      const old = await kit.mint(session);
      const fresh = await kit.mint(session, old);
      await session.revoke(old.ref, kit.signal);
      await refused(kit, session, old, 'the revoked credential');
      await accepted(kit, session, fresh, 'its neighbour');
    },
  },
  {
    name: 'a revoke ends open sessions',
    inapplicable: (traits, { hold }) =>
      byPerson(traits) ?? (hold === undefined ? 'there are no sessions' : null),
    async run(kit) {
      const session = await kit.open();
      const { ref, fields } = await kit.mint(session);
      await using held = await heldBy(kit.world, fields);
      check(await held.isOpen(), 'the session is open before');
      await session.revoke(ref, kit.signal);
      check(!(await held.isOpen()), 'the session has ended');
    },
  },
  {
    name: 'a disabled credential is refused until it is enabled',
    inapplicable: ({ capabilities }) =>
      capabilities.disable ? null : 'the issuer cannot disable one key',
    async run(kit) {
      const session = await kit.open();
      const old = await kit.mint(session);
      const fresh = await kit.mint(session, old);
      await session.disable?.(old.ref, kit.signal);
      await refused(kit, session, old, 'the disabled credential');
      await accepted(kit, session, fresh, 'its neighbour');
      await session.enable?.(old.ref, kit.signal);
      await accepted(kit, session, old, 'the enabled credential');
    },
  },
  {
    name: 'a late revoke of an older credential spares its successors',
    inapplicable: byPerson,
    async run(kit) {
      const session = await kit.open();
      const first = await kit.mint(session);
      const second = await kit.mint(session, first);
      await session.revoke(first.ref, kit.signal);
      // Where two slots alternate this one takes the place of the first.
      const third = await kit.mint(session, second);
      await session.revoke(first.ref, kit.signal);
      if (session.disable !== undefined) await session.disable(first.ref, kit.signal);
      await accepted(kit, session, second, 'the second credential');
      await accepted(kit, session, third, 'the third credential');
    },
  },
  {
    name: 'two secrets at once do not disturb each other',
    inapplicable: (_traits, { sibling }) =>
      sibling === undefined ? 'there is only one secret' : null,
    async run(kit) {
      const other = (await kit.world.sibling?.()) ?? kit.world;
      const [a, b] = [await kit.open(), await kit.open(other)];
      const mintOther = async (): Promise<Minted> =>
        other.supply === undefined ? b.mint(await kit.request(b), kit.signal) : other.supply();
      const [first, second] = await Promise.all([kit.mint(a), mintOther()]);
      await accepted(kit, a, first, 'the one');
      await accepted(kit, b, second, 'the other');
      if (kit.traits.strategy === 'operator') return;
      await a.revoke(first.ref, kit.signal);
      await accepted(kit, b, second, "the other after the one's revoke");
    },
  },
  {
    name: 'a person is told what to do, and nothing has changed',
    inapplicable: ({ strategy }) => (strategy === 'operator' ? null : 'no person is needed'),
    async run(kit) {
      const session = await kit.open();
      const request = await kit.request(session);
      const mint = await failureOf(() => session.mint(request, kit.signal), 'a mint by a person');
      const revoke = await failureOf(() => session.revoke('some-key', kit.signal), 'their revoke');
      for (const error of [mint, revoke]) {
        check(error.code === 'needs-person', `the code is needs-person, not ${error.code}`);
        check(error.effect === 'none', 'the effect is none');
        check(error.next.length > 20, 'the next step is told');
      }
    },
  },
  ...faultCases,
];

async function accepted(
  kit: Kit,
  session: ProviderSession,
  credential: Credential,
  what: string,
): Promise<void> {
  const verdict = await session.verify(credential, kit.signal);
  check(verdict.ok, `${what} is accepted`);
}

async function refused(
  kit: Kit,
  session: ProviderSession,
  credential: Credential,
  what: string,
): Promise<void> {
  const verdict = await session.verify(credential, kit.signal);
  check(!verdict.ok, `${what} is refused`);
}

async function heldBy(world: ContractWorld, fields: Credential['fields']) {
  const held = await world.hold?.(fields);
  check(held !== undefined, 'a session can be opened');
  return held;
}
