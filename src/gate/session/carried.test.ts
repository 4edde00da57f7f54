/** What is learnt of a client's set-up: only what was granted, each thing as it was last, told to the right process. */
import { describe, expect, test } from 'vitest';
import { frameOf, type Message, readMessage } from '../message.ts';
import { createCarried, listenedBy, subscriptionOf } from './carried.ts';
import type { Setup } from './path.ts';

function message(body: object): Message {
  return readMessage(frameOf(body)) as Message;
}

const granted = message({ id: 1, result: { ok: true } });
const refused = message({ id: 1, error: { code: -1, message: 'no' } });
const setup = (): Setup => ({ level: null, subscriptions: new Map() });

function open() {
  const carried = createCarried();
  const ofProcess = setup();
  return {
    carried,
    ofProcess,
    call(method: string, params?: object, answer = granted) {
      const given = params === undefined ? {} : { params };
      carried.learner(message({ id: 1, method, ...given }))?.(answer, ofProcess);
    },
  };
}

describe('the handshake', () => {
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: { roots: {} },
    clientInfo: { name: 'c' },
  };

  test('is kept as the client wrote it, with what the server answered', () => {
    const { carried } = open();
    const text = '{ "protocolVersion":"2025-11-25","x":1.0,"y":"\\u0061" }';
    const asked = readMessage(
      Buffer.from(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":${text}}\n`),
    );
    const learn = carried.learner(asked as Message);
    expect(carried.initialize).toBeNull();
    learn?.(message({ id: 0, result: { capabilities: { tools: {} } } }), setup());
    expect(carried.initialize).toEqual({ params: text, result: { capabilities: { tools: {} } } });
    expect(carried.isInitialized).toBe(false);
    carried.notified(message({ method: 'notifications/initialized' }));
    expect(carried.isInitialized).toBe(true);
  });

  test('that was refused is none', () => {
    const { carried, call } = open();
    call('initialize', params, refused);
    expect(carried.initialize).toBeNull();
  });

  test('whose answer is no JSON inside is none, and harms nobody', () => {
    const { carried, call } = open();
    call(
      'initialize',
      params,
      readMessage(Buffer.from('{"jsonrpc":"2.0","id":1,"result":{bad}}\n')) as Message,
    );
    expect(carried.initialize).toBeNull();
  });
});

describe('log level and subscriptions', () => {
  test('are those granted last, of the session and of the process that granted them', () => {
    const { carried, ofProcess, call } = open();
    call('logging/setLevel', { level: 'debug' });
    call('logging/setLevel', { level: 'error' });
    call('logging/setLevel', { level: 'refused' }, refused);
    call('resources/subscribe', { uri: 'x://1' });
    call('resources/subscribe', { uri: 'x://2', _meta: { a: 1 } });
    call('resources/subscribe', { uri: 'x://refused' }, refused);
    call('resources/unsubscribe', { uri: 'x://1' });
    call('resources/unsubscribe', { uri: 'x://2' }, refused);
    call('resources/unsubscribe', { uri: 'x://never' });
    const expected = {
      level: '{"level":"error"}',
      subscriptions: new Map([['x://2', '{"uri":"x://2","_meta":{"a":1}}']]),
    };
    expect(carried.setup).toEqual(expected);
    expect(ofProcess).toEqual(expected);
  });

  test('of a process that did not grant them are not its own', () => {
    const { carried, call } = open();
    const other = setup();
    carried.learner(message({ id: 2, method: 'resources/subscribe', params: { uri: 'x://2' } }))?.(
      granted,
      other,
    );
    call('resources/subscribe', { uri: 'x://1' });
    expect([...other.subscriptions.keys()]).toEqual(['x://2']);
    expect([...carried.setup.subscriptions.keys()]).toEqual(['x://2', 'x://1']);
  });

  test('are what the client asked for last, whichever process answers last', () => {
    const { carried } = open();
    const ask = (level: string) => {
      const params = { level };
      const learn = carried.learner(message({ id: 1, method: 'logging/setLevel', params }));
      return (answer: Message) => learn?.(answer, setup());
    };
    const [slow, quick] = [ask('slow'), ask('quick')];
    quick(granted);
    const last = ask('last');
    slow(granted);
    expect(carried.setup.level).toBe('{"level":"quick"}');
    last(granted);
    expect(carried.setup.level).toBe('{"level":"last"}');
    const [slower, refusedLater] = [ask('slower'), ask('refused')];
    refusedLater(refused);
    slower(granted);
    expect(carried.setup.level).toBe('{"level":"slower"}');
  });

  test('without what they need, and other calls, set up nothing', () => {
    const { carried } = open();
    for (const method of ['resources/subscribe', 'resources/unsubscribe', 'tools/call', 'ping']) {
      expect(carried.learner(message({ id: 1, method, params: { uri: 7 } }))).toBeNull();
      expect(carried.learner(message({ id: 1, method }))).toBeNull();
    }
  });
});

describe('roots', () => {
  test('are the answer given last, until the client says that they changed', () => {
    const { carried } = open();
    carried.answered('roots/list', message({ id: 1, result: { roots: [1] } }));
    carried.answered('roots/list', refused);
    carried.answered('sampling/createMessage', message({ id: 1, result: { roots: [2] } }));
    expect(carried.roots).toBe('{"roots":[1]}');
    carried.notified(message({ method: 'notifications/progress' }));
    expect(carried.roots).toBe('{"roots":[1]}');
    carried.notified(message({ method: 'notifications/roots/list_changed' }));
    expect(carried.roots).toBeNull();
  });
});

describe('what a modern request carries', () => {
  const version = 'io.modelcontextprotocol/protocolVersion';

  test('is learnt from the first one: the protocol’s members and nothing of the request', () => {
    const { carried, call } = open();
    call('tools/list', { cursor: 'a' });
    expect(carried.meta).toBeNull();
    call('tools/call', {
      _meta: {
        [version]: '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': { a: [1] },
        progressToken: 7,
        traceparent: '00-1',
      },
    });
    const first = {
      [version]: '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': { a: [1] },
    };
    expect(JSON.parse(carried.meta ?? '')).toEqual(first);
    call('tools/call', { _meta: { [version]: 'other' } });
    expect(JSON.parse(carried.meta ?? '')).toEqual(first);
  });

  test('is nothing where a legacy client sends a meta of its own', () => {
    const { carried, call } = open();
    call('tools/call', { _meta: { progressToken: 1, 'io.modelcontextprotocol/related-task': {} } });
    expect(carried.meta).toBeNull();
  });
});

describe('a listen', () => {
  const listen = (notifications: unknown) =>
    listenedBy(message({ id: 1, method: 'subscriptions/listen', params: { notifications } }));
  const nothing = {
    toolsListChanged: false,
    promptsListChanged: false,
    resourcesListChanged: false,
    uris: [],
  };

  test('says what it listens for', () => {
    expect(
      listen({
        toolsListChanged: true,
        resourcesListChanged: true,
        promptsListChanged: false,
        resourceSubscriptions: ['x://1', 'x://\u00e9'],
      }),
    ).toEqual({
      ...nothing,
      toolsListChanged: true,
      resourcesListChanged: true,
      uris: ['x://1', 'x://é'],
    });
  });

  test.each([
    {},
    null,
    [],
    'x',
    { toolsListChanged: 'true', resourceSubscriptions: 'x://1' },
    { toolsListChanged: 1, resourceSubscriptions: [1, null] },
  ])('for %j is one for nothing', (notifications) =>
    expect(listen(notifications)).toEqual(nothing),
  );

  test('without params is one for nothing', () => {
    expect(listenedBy(message({ id: 1, method: 'subscriptions/listen' }))).toEqual(nothing);
  });

  test('is found by the id that its notifications name, however that is written', () => {
    const of = (id: string) =>
      subscriptionOf(
        readMessage(
          Buffer.from(
            `{"jsonrpc":"2.0","method":"n","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":${id}}}}\n`,
          ),
        ) as Message,
      );
    for (const id of ['5', '5.0', '"a"', '"\\u0061"', '"5"']) {
      const asked = readMessage(
        Buffer.from(`{"jsonrpc":"2.0","id":${id},"method":"subscriptions/listen"}\n`),
      );
      expect(of(id)).toBe(asked?.id);
    }
    expect(of('"5"')).not.toBe(of('5'));
    expect(of('null')).toBeNull();
    expect(subscriptionOf(message({ method: 'n' }))).toBeNull();
  });
});
