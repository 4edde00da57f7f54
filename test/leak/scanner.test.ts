/** What the leak check rests on: the scanner finds a canary in every encoding, and nothing in clean bytes. */
import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { createCanaries } from './canaries.ts';
import { createScanner } from './scanner.ts';

const canaries = createCanaries(7);
const value = canaries.make('the key');
const key = Buffer.from('00ff80c3a9'.repeat(7), 'hex');
canaries.learn('raw bytes', key);
const scan = createScanner(canaries.all);
const found = (text: string | Buffer) => scan('here', Buffer.from(text)).map((hit) => hit.canary);

const written: Readonly<Record<string, string>> = {
  raw: value,
  'a window of twelve characters': value.slice(9, 21),
  base64: Buffer.from(value).toString('base64'),
  base64url: Buffer.from(value).toString('base64url'),
  'base64 behind one byte': Buffer.from(`a${value}`).toString('base64'),
  'base64 behind two bytes': Buffer.from(`ab${value}`).toString('base64'),
  hex: Buffer.from(value).toString('hex'),
  'hex in upper case': Buffer.from(value).toString('hex').toUpperCase(),
  'URL-encoded': encodeURIComponent(value),
  'URL-encoded in lower case': encodeURIComponent(value).replaceAll(/%../g, (x) => x.toLowerCase()),
  'form-encoded': new URLSearchParams({ a: value }).toString(),
  'JSON-escaped': JSON.stringify({ a: value }),
  'JSON inside JSON': JSON.stringify({ a: JSON.stringify({ a: value }) }),
};

describe('a canary is found', () => {
  for (const [form, text] of Object.entries(written)) {
    test(`as ${form}, between bytes that are no text`, () => {
      const around = Buffer.concat([randomBytes(500), Buffer.from(text), randomBytes(500)]);
      expect(found(around)).toContain('the key');
    });
  }

  test('where it is bytes, raw and in base64', () => {
    expect(found(Buffer.concat([Buffer.from('x'), key]))).toContain('raw bytes');
    expect(found(key.toString('base64'))).toContain('raw bytes');
  });

  test('with its source, place and offset, and without its value', () => {
    const [hit, ...others] = scan('a file', Buffer.from(`....${value.slice(0, 12)}`));
    expect(hit).toEqual({
      canary: 'the key',
      form: 'raw',
      where: 'a file',
      offset: 4,
      times: 1,
    });
    expect(others).toEqual([]);
  });
});

test('eleven characters of a canary are no hit', () => {
  expect(found(`...${value.slice(0, 11)}...`)).toEqual([]);
});

test('clean bytes give no hit', () => {
  expect(found(randomBytes(1_000_000))).toEqual([]);
  expect(found('')).toEqual([]);
});

test('a source that is declared for a place is no hit there, any other one is', () => {
  const text = Buffer.from(`${value} ${key.toString('hex')}`);
  expect(scan('the file of the policy', text, ['the key']).map((hit) => hit.canary)).toContain(
    'raw bytes',
  );
  expect(scan('the file of the policy', text, ['the key', 'raw bytes'])).toEqual([]);
});
