/** The service's log: pino, JSON or pretty, every line passed through the value redactor as the last thing that happens to it. */
import { type DestinationStream, pino } from 'pino';
import type { Log } from '../rotation/ports.ts';
import type { Redactor } from '../secret/redactor.ts';

export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export interface LogOptions {
  readonly level: LogLevel;
  /** For people at a terminal; else one JSON object a line. */
  readonly pretty: boolean;
  readonly redactor: Redactor;
  /** Where finished lines go. */
  write(line: string): void;
}

/** Fields whose values never belong into a log, whatever they hold: redacted by path, before the values are. */
const neverLogged = ['fields', 'password', 'token', 'authorization', 'headers', 'admin'];

export async function createLog(options: LogOptions): Promise<Log> {
  const { redactor, write } = options;
  const sink: DestinationStream = options.pretty ? await prettySink(write) : { write };
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      messageKey: 'message',
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: neverLogged.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    },
    // The finished line: nothing that stands in it can come from elsewhere.
    { write: (line: string) => sink.write(redactor.redact(line)) },
  );
  // Copied before pino sees it: boxes and errors become plain data whose values are removed.
  const clean = (fields: Record<string, unknown>) =>
    redactor.redact(fields) as Record<string, unknown>;
  return {
    info: (fields, message) => logger.info(clean(fields), message),
    warn: (fields, message) => logger.warn(clean(fields), message),
    error: (fields, message) => logger.error(clean(fields), message),
  };
}

async function prettySink(write: (line: string) => void): Promise<DestinationStream> {
  const { prettyFactory } = await import('pino-pretty');
  const render = prettyFactory({
    colorize: true,
    messageKey: 'message',
    translateTime: 'SYS:HH:MM:ss',
    singleLine: true,
  });
  return { write: (line) => write(render(JSON.parse(line) as object) ?? line) };
}
