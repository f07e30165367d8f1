import type { Log } from '@virt-trust/base/log.ts';
import { pino } from 'pino';

/** The agent's log: one JSON object a line on standard error, which journald keeps. */
export function createLog(): Log {
  return pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination(2),
  );
}
