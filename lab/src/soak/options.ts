import { parseArgs } from 'node:util';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

export const USAGE = `Usage: npm run soak [-- OPTIONS]      or: ./virt-trust soak [OPTIONS]

Boots two KVM hosts on this machine, gives them certificates that live 5 minutes, and lets the manager renew them
while a probe connects every second to libvirt of each host and to VNC of a running VM on each, and a VM is started
and one migrated every minute. Counts what failed, by kind; leaves nothing behind. It takes root on Debian.

  --minutes N      for how long, by the manager's clock (60)
  --clock-rate R   how much faster than the machine's the manager's clock goes, 1 to 8 (1); the hosts keep theirs
  -h, --help       this text

Exit codes: 0 nothing failed, 1 something did, 2 wrong input, 128 + the number of the signal if it was stopped`;

/** How far the clocks may be apart in the end: hosts take certificates that begin 65 minutes ago. */
const MOST_MINUTES_APART = 60;

export interface SoakOptions {
  readonly minutes: number;
  readonly clockRate: number;
}

/** Reads the arguments of `npm run soak`; 'help' where that was asked for; throws `soak.usage`. */
export function parseSoakOptions(args: readonly string[]): SoakOptions | 'help' {
  const values = parse(args);
  if (values.help) return 'help';
  const minutes = Number(values.minutes);
  if (!/^\d{1,5}$/.test(values.minutes) || minutes < 1)
    throw usage(`${values.minutes} is no number of minutes: it takes 1 to 99999`);
  const clockRate = Number(values['clock-rate']);
  if (!/^\d(?:\.\d{1,2})?$/.test(values['clock-rate']) || clockRate < 1 || clockRate > 8)
    throw usage(`${values['clock-rate']} is no clock rate: it takes 1 to 8`);
  const apart = minutes - minutes / clockRate;
  if (apart > MOST_MINUTES_APART)
    throw usage(
      `${minutes} minutes at ${clockRate} times the speed end ${Math.round(apart)} minutes apart from the hosts' clocks, more than ${MOST_MINUTES_APART}`,
    );
  return { minutes, clockRate };
}

function parse(args: readonly string[]) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        minutes: { type: 'string', default: '60' },
        'clock-rate': { type: 'string', default: '1' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw usage(describeError(error));
  }
}

function usage(reason: string): TrustError {
  return new TrustError('soak.usage', 'invalid', `cannot read the arguments: ${reason}`, {
    hint: 'see: npm run soak -- --help',
  });
}
