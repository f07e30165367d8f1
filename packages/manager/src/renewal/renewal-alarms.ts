import type { AlarmSource, Condition } from '../alarms/condition.ts';
import type { Freeze } from './freeze.ts';
import type { RenewalStore } from './renewal-store.ts';

const MOST = 1000;

/** Renewals that failed, and renewals that are stopped, as the alarms want them. */
export function renewalAlarms(store: RenewalStore, freeze: Freeze): AlarmSource {
  return {
    name: 'renewal',
    async conditions() {
      const [failures, control] = await Promise.all([store.failures(MOST), freeze.state()]);
      const failed = failures.map(
        ({ host, service, lastFailure, failures: count }): Condition => ({
          kind: 'renewal-failed',
          subject: `${service} of host ${host}`,
          host,
          severity: count >= 3 ? 'critical' : 'warning',
          message: `renewing the certificate failed: ${lastFailure ?? 'it was not said why'}`,
          action: `it is tried again by itself; to try now: virt-trust certificate renew ${host} ${service}`,
        }),
      );
      if (!control.frozen) return failed;
      const stopped: Condition = {
        kind: 'renewals-stopped',
        subject: 'renewals of the fleet',
        host: null,
        severity: control.frozenBy === 'wave' ? 'critical' : 'warning',
        message:
          control.frozenBy === 'wave'
            ? `renewals stopped: ${control.reason}`
            : `the fleet was frozen by ${control.frozenBy ?? 'somebody'}${control.reason === '' ? '' : `: ${control.reason}`}`,
        action:
          control.frozenBy === 'wave'
            ? 'see why: virt-trust renewal list; then let it go on: virt-trust unfreeze'
            : 'let it go on once the reason is gone: virt-trust unfreeze',
      };
      return [...failed, stopped];
    },
  };
}
