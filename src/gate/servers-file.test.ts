import { describe, expect, test } from 'vitest';
import { RotatedError } from '../errors.ts';
import { readServers, type ServerEntry } from './servers-file.ts';

const env = { PATH: '/usr/bin', HOME: '/home/me', SECRET_OF_MINE: 'not for servers', PORT: '1' };

function read(file: unknown): readonly ServerEntry[] {
  const text = typeof file === 'string' ? file : JSON.stringify(file, null, 2);
  return readServers(text, { file: '/home/me/.mcp.json', env });
}

function mistakes(file: unknown): string {
  try {
    read(file);
  } catch (error) {
    expect(error).toBeInstanceOf(RotatedError);
    expect((error as RotatedError).code).toBe('policy-invalid');
    return (error as RotatedError).message;
  }
  throw new Error('nothing was wrong');
}

describe("a client's own file", () => {
  test('names processes and addresses, with references where values go', () => {
    const [search, tickets] = read({
      numStartups: 7,
      mcpServers: {
        search: {
          command: '/usr/bin/npx',
          args: ['-y', 'search-mcp', '--port=${PORT}', '${NAME:-search}'],
          env: { API_KEY_REF: 'local://mcp/search#key', MODE: 'fast' },
        },
        tickets: {
          type: 'http',
          url: 'https://tickets.example/mcp',
          headers: { Authorization: 'Bearer {{local://mcp/tickets#token}}' },
        },
        old: { command: 'x', disabled: true, allowedRoles: ['nobody'] },
      },
    });
    expect(search?.entry).toEqual({
      name: 'search',
      launch: {
        kind: 'process',
        command: '/usr/bin/npx',
        args: ['-y', 'search-mcp', '--port=1', 'search'],
        cwd: '/home/me',
        env: {
          PATH: '/usr/bin',
          HOME: '/home/me',
          API_KEY: 'local://mcp/search#key',
          MODE: 'fast',
        },
        files: [],
      },
    });
    expect(tickets?.entry.launch).toEqual({
      kind: 'remote',
      url: 'https://tickets.example/mcp',
      headers: { Authorization: 'Bearer {{local://mcp/tickets#token}}' },
    });
  });

  test('may have comments and trailing commas, and be called servers', () => {
    const [one] = read('{ // mine\n "servers": { "a": { "command": "x", "type": "stdio", }, }, }');
    expect(one?.entry.name).toBe('a');
  });

  test('says how a server is swapped', () => {
    const [one] = read({
      mcpServers: {
        a: {
          command: 'x',
          rotated: {
            swap: 'drain-window',
            drain: '5m',
            warm: '0s',
            emergency: 'drain',
            retry: ['search'],
            canary: { tool: 'get_me' },
            redact: false,
            files: [{ path: 'key.txt', content: '{{local://mcp/a#key}}', reread: true }],
          },
        },
      },
    });
    expect(one?.settings).toEqual({
      swap: 'drain-window',
      drainMs: 300_000,
      warmMs: 0,
      emergency: 'drain',
      retry: ['search'],
      canary: { tool: 'get_me', arguments: {} },
      redact: false,
    });
    expect(one?.entry.launch).toMatchObject({
      files: [{ path: '/home/me/key.txt', content: '{{local://mcp/a#key}}', reread: true }],
    });
  });
});

describe('a mistake', () => {
  test('is told with its place, all of them at once, and no value of the file', () => {
    const text = mistakes({
      mcpServers: {
        a: { command: 'x', allowedRoles: ['admin'], env: { KEY: 'sk-plaintext-secret-value' } },
        b: { command: 'x', rotated: { drain: 'soon', maxCreditsPerHour: 3 } },
        c: { url: 'ftp://sk-plaintext-secret-value', args: [] },
        d: { args: ['sk-plaintext-secret-value'] },
        e: { command: 'x', env: { A: '${NOT_SET}', B: '${input:key}', C: 3 } },
        f: 'x',
      },
    });
    for (const part of [
      'a: "allowedRoles" is not enforced by this version, so it is refused',
      'b: "rotated.drain" is written like "5m"',
      'b: "rotated.maxCreditsPerHour" is not enforced',
      'c: "args" does not go with a "url"',
      'c: "url" must begin with https:// or http://',
      'd: "command" is missing',
      'e: "env.A" asks for $NOT_SET, which is not set',
      'e: "env.B" asks for something that only its client can fill in',
      'e: "env.C" must be a string',
      'f: A server is written as',
    ]) {
      expect(text).toContain(part);
    }
    expect(text).toContain('/home/me/.mcp.json:5:23 a:');
    expect(text).not.toContain('sk-plaintext');
  });

  test('in the JSON itself names line and column, and repeats nothing', () => {
    const text = mistakes(
      '{\n  "mcpServers": {\n    "a": { "command": "sk-secret" "args": [] } } }',
    );
    expect(text).toBe('/home/me/.mcp.json:3:35 This is no JSON.');
  });

  test('is a file without servers', () => {
    expect(mistakes('{}')).toContain('There is no "mcpServers"');
    expect(mistakes('[]')).toContain('There is no "mcpServers"');
    expect(mistakes('')).toContain('This is no JSON');
  });

  test('is a container: ending its client does not end it', () => {
    const entry = (command: string) => ({
      mcpServers: { a: { command, args: ['run', '-i', '--rm', 'mcp/x'] } },
    });
    for (const engine of ['docker', '/usr/bin/podman']) {
      expect(mistakes(entry(engine))).toContain('does not end the container');
    }
  });

  test('is a server that policies could not tell from another', () => {
    expect(
      mistakes({ mcpServers: { 'my server': { command: 'x' }, 'my-server': { command: 'y' } } }),
    ).toContain('could not tell it from my server');
  });

  test('is a key that is set twice, and a file of a server elsewhere', () => {
    const both = { KEY: 'x', KEY_REF: 'local://mcp/a#key' };
    expect(mistakes({ mcpServers: { a: { command: 'x', env: both } } })).toContain(
      'Both KEY and KEY_REF are set',
    );
    const files = [{ path: 'x', content: 'y' }];
    expect(mistakes({ mcpServers: { a: { url: 'https://x', rotated: { files } } } })).toContain(
      'reads no file of this machine',
    );
  });
});
