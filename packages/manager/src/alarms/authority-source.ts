import type { Clock } from '@virt-trust/base/clock.ts';
import { formatInstant } from '@virt-trust/base/instant.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Settings } from '../settings/settings.ts';
import type { AlarmSource, Condition } from './condition.ts';
import { Deadlines, type ExpiryThresholds, expirySeverity } from './expiry.ts';
import { milliseconds } from './fleet-conditions.ts';

/** Authorities whose certificates end soon: what they sign ends with them. */
export function authoritySource(parts: {
  readonly authorities: () => readonly Authority[];
  readonly settings: Pick<Settings, 'value'>;
  readonly clock: Clock;
}): AlarmSource {
  return {
    name: 'authorities',
    async conditions() {
      const thresholds = await thresholdsOf(parts.settings);
      const deadlines = new Deadlines(parts.clock.now());
      return parts
        .authorities()
        .flatMap((authority) => [
          ...expiring(authority, 'issuing', thresholds, deadlines),
          ...expiring(authority, 'root', thresholds, deadlines),
        ]);
    },
  };
}

async function thresholdsOf(settings: Pick<Settings, 'value'>): Promise<ExpiryThresholds> {
  return {
    warning: {
      before: await milliseconds(settings, 'alarm.authority_expiry_warning'),
      percent: await settings.value('alarm.expiry_warning_percent'),
    },
    critical: {
      before: await milliseconds(settings, 'alarm.authority_expiry_critical'),
      percent: await settings.value('alarm.expiry_critical_percent'),
    },
  };
}

function expiring(
  authority: Authority,
  which: 'issuing' | 'root',
  thresholds: ExpiryThresholds,
  deadlines: Deadlines,
): Condition[] {
  const { notBefore, notAfter } = authority[which];
  const severity = expirySeverity({ begin: notBefore, end: notAfter }, thresholds, deadlines);
  if (severity === null) return [];
  const verb = deadlines.passed(notAfter) ? 'expired' : 'expires';
  return [
    {
      kind: 'authority-expiry',
      subject: `${which} certificate of authority ${authority.name}`,
      host: null,
      severity,
      message: `the ${which} certificate of authority ${authority.name} ${verb} at ${formatInstant(notAfter)}; no certificate under it is valid for longer`,
      action: `see it with: virt-trust authority show ${authority.name}; plan a manager with new authorities, and add the hosts there before that day`,
    },
  ];
}
