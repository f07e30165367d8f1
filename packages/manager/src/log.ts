import type { Log } from '@virt-trust/base/log.ts';
import { type DestinationStream, pino } from 'pino';

/** Names of fields whose values never belong in a log, at whatever depth up to three. */
const SECRET_FIELDS = [
  'authorization',
  'token',
  'secret',
  'password',
  'passphrase',
  'key',
  'privateKey',
  'cookie',
];

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** The manager's log: one JSON object a line on standard error, secrets taken out. */
export function createLog(
  level: LogLevel = 'info',
  destination: DestinationStream = pino.destination(2),
): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // SECURITY: nothing should log these in the first place; this is the net below.
      redact: {
        paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
        censor: '[redacted]',
      },
    },
    destination,
  );
}
