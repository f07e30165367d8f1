import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';

/** Certificates are back-dated by the allowed skew; past it they would not be valid yet for one side. Throws `host.clock_skew`. */
export function assertClock(
  hostName: string,
  host: Instant,
  manager: Instant,
  allowedSkewSeconds: number,
): void {
  if (Math.abs(host - manager) <= allowedSkewSeconds * 1000) return;
  throw new TrustError(
    'host.clock_skew',
    'conflict',
    `cannot work with host ${hostName}: its clock says ${formatInstant(host)} and the manager's says ${formatInstant(manager)}, more than ${allowedSkewSeconds} s apart`,
    {
      hint: 'set the wrong one right (timedatectl set-ntp true), then run the same command again',
      context: { host: formatInstant(host), manager: formatInstant(manager) },
    },
  );
}
