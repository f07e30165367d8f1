import { parseArgs } from 'node:util';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { DEFAULT_LISTEN } from '@virt-trust/manager/http/listen.ts';

export const USAGE = `Usage: npm start [-- OPTIONS]      or: ./virt-trust start [OPTIONS]

Boots two KVM hosts on this machine, gives them their certificates, and migrates a VM between them over TLS.
It takes root on Debian; anywhere else it starts the manager alone. Ctrl-C takes everything down, and the next
start goes on from there.

  --exit         take everything down after the main job; exit code 0 only if every step was proven
  --no-lab       the manager alone, for hosts of yours
  --name NAME    another lab beside the first (demo)
  --port PORT    where the manager serves on 127.0.0.1 (${DEFAULT_LISTEN.port})
  -h, --help     this text

Exit codes: 0 done, 1 failed, 2 wrong input, 4 conflict, 6 unavailable (try again), 70 fault of virt-trust,
128 + the number of the signal if it was stopped before the main job was done`;

export interface StartOptions {
  readonly exit: boolean;
  readonly lab: boolean;
  readonly name: string;
  readonly port: number;
}

/** Reads the arguments of `npm start`; 'help' where that was asked for; throws `start.usage`. */
export function parseOptions(args: readonly string[]): StartOptions | 'help' {
  const { values } = parse(args);
  if (values.help) return 'help';
  const port = Number(values.port);
  if (!/^\d{1,5}$/.test(values.port) || port < 1 || port > 65535)
    throw usage(`${values.port} is no port: it takes 1 to 65535`);
  return { exit: values.exit, lab: !values['no-lab'], name: values.name, port };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        exit: { type: 'boolean', default: false },
        'no-lab': { type: 'boolean', default: false },
        name: { type: 'string', default: 'demo' },
        port: { type: 'string', default: String(DEFAULT_LISTEN.port) },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw usage(describeError(error));
  }
}

function usage(reason: string): TrustError {
  return new TrustError('start.usage', 'invalid', `cannot read the arguments: ${reason}`, {
    hint: 'see: npm start -- --help',
  });
}
