/** What a policy file may contain, as written: keys, short forms, and what each is for. The JSON Schema comes from here. */
import { z } from 'zod';
import { durationPattern, parseDuration } from './duration.ts';
import { fieldNamePattern, parseReference } from './reference.ts';
import { canonicalLocal, localInstantPattern, timeOfDayPattern } from './timezone.ts';

/** Names of secrets, groups, notifiers. */
export const namePattern = '^[a-z0-9][a-z0-9-]{0,62}$';
const tagPattern = '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,62}$';
const serverNamePattern = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$';
const environmentNamePattern = '^[A-Za-z_][A-Za-z0-9_]*$';
const headerNamePattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

/** Longer lists are a mistake in a generator, not a wish. */
const listMax = 100;

const durationText = text(
  'a span of time with its unit: 10m, 24h, 30d, 1h30m',
  durationPattern,
  (value) =>
    parseDuration(value) === null
      ? 'this is no span of time: whole numbers with units, the larger first, at most ten years'
      : null,
);
const referenceText = text(
  'a place in a secrets backend: scheme://path or scheme://path#field',
  '^(local|vault|awssm|op)://[^#]+(#.+)?$',
  (value) => {
    const parsed = parseReference(value);
    return 'wrong' in parsed ? parsed.wrong : null;
  },
);
const nameText = text(
  'a name: lower-case letters, digits and "-", at most 63',
  namePattern,
  matching(namePattern, 'a name has lower-case letters, digits and "-", and at most 63 of them'),
);
const httpUrl = text('an http or https URL', '^https?://', (value) => wrongUrl(value));
const pathText = z
  .string()
  .min(1)
  .max(4096)
  .refine((value) => !value.includes('\0'), 'a path has no NUL character')
  .meta({ description: 'A path; a relative one counts from the folder of the policy file.' });
const localInstantText = text(
  'a local date or date and time, in the zone of the schedule: 2026-12-20 or 2026-12-20T18:00',
  localInstantPattern,
  (value) => (canonicalLocal(value) === null ? 'there is no such day or time' : null),
);
const timeOfDayText = text(
  'a time of day, in quotes: "01:00"',
  timeOfDayPattern,
  matching(timeOfDayPattern, 'a time of day is written "HH:MM"'),
);
const fieldNameText = text(
  'the name of a field',
  fieldNamePattern,
  matching(
    fieldNamePattern,
    'a field name has letters, digits, "_", "-" and ".", and starts with a letter',
  ),
);

const argument = z
  .string()
  .max(8192)
  .refine((value) => !value.includes('\0'), 'an argument has no NUL character');
const commandList = z
  .tuple([argument.min(1)], argument)
  .refine((value) => value.length <= listMax, `at most ${listMax} parts`)
  .meta({
    description:
      'The program and its arguments, as a list: no shell reads it. A program that starts with ./ counts from the folder of the policy file.',
  });

const httpTarget = z.strictObject({
  url: httpUrl,
  key: referenceText
    .optional()
    .describe('Where the key stands that signs requests and reports (HMAC).'),
});
const commandOnly = z.strictObject({ command: commandList });

export const signalNames = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGTERM', 'SIGINT'] as const;
const signalShape = z
  .strictObject({
    signal: z.enum(signalNames),
    pidfile: pathText.optional().describe('A file that holds the id of the process.'),
    match: commandList
      .optional()
      .describe('Adjacent parts of the command line of every process that is meant.'),
    owner: z
      .union([z.string().min(1).max(64), z.int().nonnegative()])
      .optional()
      .describe("The account that must own the process; the daemon's own where it is left out."),
  })
  .meta({ oneOf: [{ required: ['pidfile'] }, { required: ['match'] }] });

const serverText = text(
  'the name of an MCP server: letters, digits, "_", "-" and "."',
  serverNamePattern,
  matching(serverNamePattern, 'a server has letters, digits, "_", "-" and ".", at most 63 of them'),
);
/** Some servers put "401 Unauthorized" into an ordinary result. */
const expectedText = z
  .string()
  .min(1)
  .max(200)
  .describe('What the answer of a server with a working credential holds.');
const toolText = z.string().min(1).max(200).describe('A tool of the server.');
const toolArguments = z
  .record(z.string().max(200), z.unknown())
  .describe('What the tool is called with.');

const gateShape = z.strictObject({
  server: serverText,
  command: commandList
    .optional()
    .describe(
      'What clients launch under this name, as their config writes it: grants it this secret.',
    ),
  swap: z
    .enum(['swap', 'drain-window', 'pin-sessions'])
    .optional()
    .describe('How the new process takes over: beside the old one, after it, or by sessions.'),
  drain: durationText.optional().describe('How long the old process may take for its calls.'),
  emergency: z
    .enum(['drain', 'cut'])
    .optional()
    .describe('Whether rotate --now cuts the calls that outlast the drain.'),
  warm: durationText.optional().describe('How long the old process is kept for a way back.'),
  idle: durationText.optional().describe('Without a call for so long, an instance is idle.'),
  start: durationText.optional().describe('How long a new process may take until it is ready.'),
  retry: oneOrMore(toolText)
    .optional()
    .describe('Tools that may be called again where the first call may have been carried out.'),
  canary: z
    .strictObject({
      tool: toolText,
      arguments: toolArguments.optional(),
      expect: expectedText.optional(),
    })
    .optional()
    .describe('A read-only call that uses the credential, made before the new process takes over.'),
  redact: z.boolean().optional().describe('Remove values from what the server says.'),
  version: z
    .enum(['refuse', 'allow'])
    .optional()
    .describe('Whether a new process of another version of the server may take over.'),
});

const reportShape = z
  .strictObject({
    http: z.union([httpUrl, httpTarget]).optional(),
    exec: z.union([commandList, commandOnly]).optional(),
    file: z.union([pathText, z.strictObject({ path: pathText })]).optional(),
  })
  .meta({
    description: 'How each instance tells which generation it serves.',
    oneOf: requireOne('http', 'exec', 'file'),
  });

const consumerShape = z
  .strictObject({
    signal: signalShape.optional().describe('Sends a signal to a process.'),
    http: z
      .union([httpUrl, httpTarget])
      .optional()
      .describe('Posts the changed generations to a URL.'),
    exec: z.union([commandList, commandOnly]).optional().describe('Runs a command.'),
    file: z
      .strictObject({
        path: pathText,
        format: z.enum(['env', 'json', 'template']).optional(),
        template: pathText.optional().describe('With ${field} and ${generation} in it.'),
        mode: text(
          'the mode of the file, in quotes: "0600"',
          '^0?[0-7]{3}$',
          matching('^0?[0-7]{3}$', 'a file mode is written in octal digits and in quotes'),
        ).optional(),
        then: signalShape.optional(),
      })
      .optional()
      .describe('Renders the values into a file, and may send a signal then.'),
    gate: z
      .union([serverText, gateShape])
      .optional()
      .describe('Swaps the running instances of an MCP server behind rotate wrap.'),
    role: z
      .enum(['user', 'verifier'])
      .optional()
      .describe('user presents the credential; verifier accepts it from others.'),
    report: reportShape.optional(),
    timeout: durationText.optional(),
  })
  .meta({ oneOf: requireOne('signal', 'http', 'exec', 'file', 'gate') });

const status = z.int().min(100).max(599);
const verifyShape = z.union([
  z.literal('provider').describe('Asks the issuer whether the credential works.'),
  z
    .strictObject({
      provider: z.strictObject({}).optional(),
      http: z
        .union([
          httpUrl,
          z.strictObject({
            url: httpUrl,
            method: z.enum(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']).optional(),
            headers: z
              .record(z.string(), z.string().max(8192))
              .optional()
              .meta({
                description: '${field} stands for a field of the item.',
                propertyNames: { pattern: headerNamePattern },
              }),
            body: z.string().max(65_536).optional(),
            expect: z.union([status, z.array(status).min(1)]).optional(),
            timeout: durationText.optional(),
          }),
        ])
        .optional(),
      exec: z
        .union([
          commandList,
          z.strictObject({
            command: commandList,
            env: z
              .record(z.string(), fieldNameText)
              .optional()
              .meta({
                description: 'Name in the environment: field of the item.',
                propertyNames: { pattern: environmentNamePattern },
              }),
            timeout: durationText.optional(),
          }),
        ])
        .optional(),
      mcp: z
        .strictObject({
          server: serverText
            .optional()
            .describe('Instead of a command: that of the gate consumer of this name.'),
          command: commandList.optional(),
          env: z
            .record(z.string(), z.string().max(8192))
            .optional()
            .meta({
              description: '${field} stands for a field of the item.',
              propertyNames: { pattern: environmentNamePattern },
            }),
          tool: toolText,
          arguments: toolArguments.optional(),
          expect: expectedText.optional(),
          timeout: durationText.optional(),
        })
        .optional()
        .describe('Starts an MCP server with the credential and makes one call that uses it.'),
    })
    .meta({ oneOf: requireOne('provider', 'http', 'exec', 'mcp') }),
]);

const windowShape = z.strictObject({
  days: z
    .union([
      z.enum(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']),
      z.array(z.enum(['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'])),
    ])
    .optional()
    .describe('The days on which the window opens; all where left out.'),
  from: timeOfDayText,
  to: timeOfDayText.describe('A time that is not after `from` is on the next day.'),
});

const freezeShape = z.strictObject({
  from: localInstantText,
  to: localInstantText.describe('The first instant that is free again.'),
  reason: z.string().max(200).optional(),
});

const scheduleShape = z.union([
  z.literal('manual').describe('Rotates only when asked, or when age or expiry force it.'),
  z
    .strictObject({
      cron: z.string().max(200).optional().describe('Five fields, or six with seconds first.'),
      every: durationText.optional().describe('Counts from the last rotation.'),
      manual: z.literal(true).optional(),
      timezone: z
        .string()
        .max(64)
        .optional()
        .describe('An IANA name such as Europe/Berlin; UTC where left out.'),
      splay: durationText.optional().describe('Spreads the runs of many secrets over this time.'),
      window: windowShape.optional().describe('Rotations begin only inside it.'),
      freeze: z
        .union([freezeShape, z.array(freezeShape).max(listMax)])
        .optional()
        .describe('No rotation begins inside one.'),
      missed: z
        .enum(['once', 'skip'])
        .optional()
        .describe('What becomes of runs that fell due while nothing ran.'),
      ageMin: durationText.optional().describe('No scheduled rotation of a younger credential.'),
      ageMax: durationText.optional().describe('Rotate at the latest at this age.'),
    })
    .meta({ oneOf: requireOne('cron', 'every', 'manual') }),
]);

const providerShape = z.union([
  z.string().min(1).max(4096),
  z
    .looseObject({
      use: z.string().min(1).max(4096).describe('The name of a provider, or a path to one.'),
      admin: referenceText.optional().describe('Where the credential stands that it mints with.'),
    })
    .describe("Beside use and admin stand the provider's own options."),
]);

const backendShape = z.union([
  referenceText,
  z.strictObject({
    ref: referenceText,
    fields: z
      .record(z.string(), fieldNameText)
      .optional()
      .meta({
        description: "Field of the item: the provider's field that it holds.",
        propertyNames: { pattern: fieldNamePattern },
        minProperties: 1,
      }),
  }),
]);

export const secretShape = z
  .strictObject({
    tags: oneOrMore(
      text('a tag', tagPattern, matching(tagPattern, 'a tag has letters, digits and . _ : / -')),
    )
      .optional()
      .describe('Words to select secrets by.'),
    group: nameText.optional().describe('Secrets of one group are flipped together.'),
    provider: providerShape.describe('Who issues the credential.'),
    backend: backendShape.describe('Where it is kept.'),
    schedule: scheduleShape.optional().describe('When it is rotated.'),
    every: durationText.optional().describe('Short for schedule: { every: … }.'),
    grace: durationText
      .optional()
      .describe('How long the old credential lives on after all use the new one.'),
    quiet: durationText
      .optional()
      .describe('How long the old credential must be unused before it is revoked.'),
    verify: oneOrMore(verifyShape).optional().describe('What proves that the new one works.'),
    consumers: oneOrMore(consumerShape).optional().describe('Who has to pick up the new one.'),
    adoption: z
      .strictObject({
        timeout: durationText.optional(),
        then: z.enum(['wait', 'revoke', 'rollback']).optional(),
      })
      .optional()
      .describe('What to do where consumers do not confirm in time.'),
    failure: z
      .strictObject({
        attempts: z.int().min(1).max(100).optional(),
        pauseAfter: z.int().min(1).max(100).optional(),
      })
      .optional(),
    emergency: z
      .strictObject({
        mode: z.enum(['continuity', 'contain']).optional(),
        deadline: durationText.optional(),
      })
      .optional()
      .describe('How rotate --now treats it.'),
    escrow: z
      .boolean()
      .optional()
      .describe('Keep current sealed in the journal, so that a lost backend can be restored.'),
    notify: oneOrMore(nameText).optional().describe('Names from notifiers.'),
  })
  .meta({ oneOf: [{ required: ['schedule'] }, { required: ['every'] }] });

export const notifierShape = z
  .strictObject({
    exec: z.union([commandList, commandOnly]).optional(),
    http: z.union([httpUrl, z.strictObject({ url: httpUrl })]).optional(),
  })
  .meta({ oneOf: requireOne('exec', 'http') });

export const fileShape = z.strictObject({
  secrets: z
    .record(z.string(), secretShape)
    .optional()
    .meta({
      description: 'The secrets to keep fresh, by name.',
      propertyNames: { pattern: namePattern },
    }),
  notifiers: z
    .record(z.string(), notifierShape)
    .optional()
    .meta({
      description: 'Hooks that policies name under notify, in any file of the folder.',
      propertyNames: { pattern: namePattern },
    }),
});

export type SecretInput = z.infer<typeof secretShape>;
export type NotifierInput = z.infer<typeof notifierShape>;
export type ConsumerInput = z.infer<typeof consumerShape>;
export type VerifyInput = z.infer<typeof verifyShape>;
export type ScheduleInput = z.infer<typeof scheduleShape>;
export type SignalInput = z.infer<typeof signalShape>;
export type ReportInput = z.infer<typeof reportShape>;

/** What stands at the keys of a map whose names the writer chooses. */
export const keyPatterns: Readonly<Record<string, RegExp>> = {
  name: new RegExp(namePattern),
  field: new RegExp(fieldNamePattern),
  environment: new RegExp(environmentNamePattern),
  header: new RegExp(headerNamePattern),
};

/** A string with its description and pattern for editors, and a check whose message says what is wrong. */
function text(description: string, pattern: string, wrong: (value: string) => string | null) {
  return z
    .string()
    .superRefine((value, context) => {
      const message = wrong(value);
      if (message !== null) context.addIssue({ code: 'custom', message });
    })
    .meta({ description, pattern });
}

function matching(pattern: string, message: string): (value: string) => string | null {
  const expression = new RegExp(pattern);
  return (value) => (expression.test(value) ? null : message);
}

function wrongUrl(value: string): string | null {
  if (!URL.canParse(value)) return 'this is no URL';
  const url = new URL(value);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'only http and https URLs';
  if (url.username !== '' || url.password !== '') {
    return 'a URL with a user or password in it: credentials go into a header or a key';
  }
  // A value in a URL ends up in the access log of every proxy on the way.
  if (value.includes('${')) return 'a field may stand in a header or the body, not in the URL';
  if (url.hash !== '') return 'a URL with a fragment, which is never sent';
  return null;
}

function oneOrMore<Item extends z.ZodType>(item: Item) {
  return z.union([item, z.array(item).max(listMax)]);
}

function requireOne(...keys: readonly string[]): { required: string[] }[] {
  return keys.map((key) => ({ required: [key] }));
}
