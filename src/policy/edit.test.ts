/** What an edit changed, and whether an active rotation can bear it. */
import { expect, test } from 'vitest';
import { z } from 'zod';
import { policyEdit } from './edit.ts';
import { parsePolicyText } from './parse.ts';
import type { Policy } from './policy.ts';

function parse(body: string, comment = '', folder = '/etc/rotated'): Policy {
  const { policies, problems } = parsePolicyText(
    `${comment}secrets:\n  it: { ${body} }`,
    `${folder}/it.yaml`,
    {
      backends: new Set(['local']),
      providers: ['generated'],
      providerSchema: () => z.looseObject({}),
    },
  );
  expect(problems).toEqual([]);
  const [policy] = policies;
  if (policy === undefined) throw new Error('no policy');
  return policy;
}

const body = 'provider: { use: exec, command: [issue], b: 1 }, backend: local://a, every: 30d';

test('a policy that moved down its file, or back from JSON, is the same', () => {
  const before = parse(body);
  expect(policyEdit(before, parse(body, '# a comment\n')).kind).toBe('same');
  expect(policyEdit(before, JSON.parse(JSON.stringify(before)) as Policy).kind).toBe('same');
  expect(
    policyEdit(before, parse(body.replace('command: [issue], b: 1', 'b: 1, command: [issue]')))
      .kind,
  ).toBe('same');
});

test('it says what differs', () => {
  const edit = policyEdit(parse(body), parse(`${body.replace('30d', '7d')}, grace: 2h, tags: [x]`));
  expect(edit).toEqual({
    kind: 'edited',
    changes: ['graceMs', 'schedule.trigger.everyMs', 'tags.0'],
    backendChanged: false,
    providerChanged: false,
  });
});

test('another backend, field, provider, option or admin credential is marked', () => {
  const before = parse(body);
  expect(policyEdit(before, parse(body.replace('local://a', 'local://b')))).toMatchObject({
    backendChanged: true,
    providerChanged: false,
  });
  expect(policyEdit(before, parse(body.replace('local://a', 'local://a#key')))).toMatchObject({
    backendChanged: true,
  });
  expect(policyEdit(before, parse(body.replace('issue', 'other')))).toMatchObject({
    providerChanged: true,
    backendChanged: false,
  });
  expect(policyEdit(before, parse(body.replace('b: 1', 'b: 1, admin: local://x')))).toMatchObject({
    providerChanged: true,
  });
});

test('another folder matters to a provider only where its options count from it', () => {
  expect(policyEdit(parse(body), parse(body, '', '/srv'))).toMatchObject({
    kind: 'edited',
    providerChanged: false,
  });
  const own = body.replace('issue', './issue');
  expect(policyEdit(parse(own), parse(own, '', '/srv'))).toMatchObject({ providerChanged: true });
});

test('added, removed, neither', () => {
  const policy = parse(body);
  expect(policyEdit(null, policy).kind).toBe('added');
  expect(policyEdit(policy, null).kind).toBe('removed');
  expect(policyEdit(null, null).kind).toBe('same');
});
