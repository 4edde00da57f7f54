/** Whether a new process may take over: what differs, what is missing, and what makes no difference. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  canonical,
  changedListings,
  identityProblem,
  lostTools,
  memberOf,
  missingCapabilities,
  type Offer,
} from './compare.ts';

const identity = {
  protocolVersion: '2025-11-25',
  capabilities: { tools: { listChanged: true }, logging: {} },
  serverInfo: { name: 's', version: '1.2.3' },
};

function offer(given: Partial<Record<keyof Offer, Record<string, string>>> = {}): Offer {
  const map = (name: keyof Offer) => new Map(Object.entries(given[name] ?? {}));
  return { tools: map('tools'), prompts: map('prompts'), resources: map('resources') };
}

describe('an identity', () => {
  test('that is the same, in whatever order it is written, is no problem', () => {
    const turned = {
      serverInfo: { version: '1.2.3', name: 's' },
      capabilities: { logging: {}, tools: { listChanged: true } },
      protocolVersion: '2025-11-25',
    };
    expect(identityProblem(identity, turned, 'refuse')).toBeNull();
  });

  test('with another protocol version is refused, whatever the settings allow', () => {
    for (const version of ['refuse', 'allow'] as const) {
      expect(
        identityProblem(identity, { ...identity, protocolVersion: '2025-06-18' }, version),
      ).toBe('it answers in another protocol version: 2025-06-18 instead of 2025-11-25');
    }
  });

  test('with another version of the server is refused unless the settings allow it', () => {
    const other = { ...identity, serverInfo: { name: 's', version: '2.0.0' } };
    expect(identityProblem(identity, other, 'refuse')).toContain('version 2.0.0 instead of 1.2.3');
    expect(identityProblem(identity, other, 'allow')).toBeNull();
    expect(identityProblem(identity, { ...identity, serverInfo: null }, 'refuse')).toContain(
      'version none instead of 1.2.3',
    );
    expect(identityProblem({ ...identity, serverInfo: {} }, other, 'refuse')).toBeNull();
  });

  test('that can do more is no problem, one that lacks anything is', () => {
    const more = { ...identity, capabilities: { ...identity.capabilities, prompts: {} } };
    expect(identityProblem(identity, more, 'refuse')).toBeNull();
    expect(identityProblem(more, identity, 'refuse')).toBe('it lacks the capability prompts');
    const less = { ...identity, capabilities: { tools: { listChanged: false }, logging: {} } };
    expect(identityProblem(identity, less, 'refuse')).toBe(
      'it lacks the capability tools.listChanged',
    );
  });

  test('shows of a version no more than one short line', () => {
    const rude = { ...identity, serverInfo: { version: `1\n\u001b[31m${'x'.repeat(500)}` } };
    const problem = identityProblem(identity, rude, 'refuse') ?? '';
    // eslint-disable-next-line no-control-regex
    expect(problem).not.toMatch(/[\n\u001b]/);
    expect(problem.length).toBeLessThan(200);
  });
});

describe('capabilities', () => {
  const json = fc.jsonValue({ maxDepth: 3 });

  test('are never missing where nothing changed', () => {
    fc.assert(
      fc.property(json, (value) => {
        expect(missingCapabilities(value, structuredClone(value))).toEqual([]);
      }),
    );
  });

  test('are never missing where more was added, at any depth', () => {
    const capability = fc.letrec<{ tree: object }>((tie) => ({
      tree: fc.dictionary(
        fc.constantFrom('a', 'b', 'c'),
        fc.oneof({ depthSize: 'small' }, fc.constant(true), fc.constant({}), tie('tree')),
        { maxKeys: 3 },
      ),
    })).tree;
    fc.assert(
      fc.property(capability, capability, (before, more) => {
        expect(missingCapabilities(before, merged(before, more))).toEqual([]);
      }),
    );
  });

  test('name each that is gone, by its path', () => {
    expect(
      missingCapabilities(
        {
          tools: { listChanged: true },
          resources: { subscribe: true, listChanged: false },
          logging: {},
          experimental: { a: { b: {} } },
        },
        { tools: {}, resources: { subscribe: true }, experimental: { a: {} } },
      ),
    ).toEqual(['tools.listChanged', 'logging', 'experimental.a.b']);
  });

  function merged(a: unknown, b: unknown): unknown {
    if (typeof a !== 'object' || a === null) return a;
    const other = typeof b === 'object' && b !== null ? (b as Record<string, unknown>) : {};
    return {
      ...other,
      ...Object.fromEntries(
        Object.entries(a).map(([name, value]) => [name, merged(value, other[name])]),
      ),
    };
  }
});

describe('an offer', () => {
  test('loses the tools that are not there any more, and no prompts or resources', () => {
    const before = offer({ tools: { a: '1', b: '1' }, prompts: { p: '1' }, resources: { r: '1' } });
    expect(lostTools(new Set(before.tools.keys()), offer({ tools: { b: '2', c: '1' } }))).toEqual([
      'a',
    ]);
    expect(lostTools(new Set(before.tools.keys()), offer({ tools: { a: '', b: '' } }))).toEqual([]);
  });

  test('changes where a thing is added, gone, or another', () => {
    const before = offer({ tools: { a: '1' }, prompts: { p: '1' }, resources: { r: '1' } });
    expect(changedListings(before, before)).toEqual([]);
    expect(
      changedListings(
        before,
        offer({ tools: { a: '1', b: '1' }, prompts: {}, resources: { r: '2' } }),
      ),
    ).toEqual(['tools', 'prompts', 'resources']);
    expect(
      changedListings(
        before,
        offer({ tools: { b: '1' }, prompts: { p: '1' }, resources: { r: '1' } }),
      ),
    ).toEqual(['tools']);
  });

  test('does not change with the order of its things', () => {
    const turned = offer({ tools: { b: '2', a: '1' } });
    expect(changedListings(offer({ tools: { a: '1', b: '2' } }), turned)).toEqual([]);
  });
});

describe('the canonical text', () => {
  /** Members in another order, at every depth. */
  function turned(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(turned);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([name, member]) => [name, turned(member)]),
    );
  }

  test('is the same exactly for equal values', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(canonical(turned(a))).toBe(canonical(a));
        expect(JSON.parse(canonical(a))).toEqual(JSON.parse(JSON.stringify(a)));
        const isEqual = JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
        expect(canonical(a) === canonical(b)).toBe(isEqual);
      }),
    );
  });

  test('tells lists in another order apart', () => {
    expect(canonical([1, 2])).not.toBe(canonical([2, 1]));
  });

  function sorted(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(sorted);
    if (typeof value !== 'object' || value === null) return value;
    const members = Object.entries(value)
      .map(([name, member]) => [name, sorted(member)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    // An empty object is no empty list.
    return { members };
  }
});

test('a member is one of the value itself, not of what every object has', () => {
  expect(memberOf({ a: 1 }, 'a')).toBe(1);
  for (const value of [{}, [], null, undefined, 'x', 1]) {
    expect(memberOf(value, 'toString')).toBeUndefined();
    expect(memberOf(value, 'constructor')).toBeUndefined();
  }
});
