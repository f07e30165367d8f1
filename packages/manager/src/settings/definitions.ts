import { isIP } from 'node:net';
import { KeyAlgorithm } from '@virt-trust/contract/model/service.ts';
import {
  EVERYWHERE,
  GLOBAL,
  integerSetting,
  listSetting,
  type SettingDefinition,
  textSetting,
} from './definition.ts';

const ALGORITHMS: readonly string[] = KeyAlgorithm.anyOf.map((algorithm) => algorithm.const);

/** Every setting. */
export const SETTINGS = {
  organization: textSetting({
    default: 'virt-trust',
    description:
      'Organization (O) in the subjects of authorities that are made from now on, and of their certificates, 1 to 64 characters.',
    scopes: GLOBAL,
    // X.520 ub-organization-name; no control characters.
    is: (value): value is string => /^[^\p{Cc}\p{Cs}]{1,64}$/u.test(value) && value.trim() === value,
    form: '1 to 64 characters without control characters or spaces at the ends',
  }),
  'key.algorithm': textSetting({
    default: 'ecdsa-p256' as KeyAlgorithm,
    description: `Key algorithm of certificates made from now on: ${ALGORITHMS.join(', ')}.`,
    scopes: EVERYWHERE,
    is: (value): value is KeyAlgorithm => ALGORITHMS.includes(value),
    form: `one of ${ALGORITHMS.join(', ')}`,
  }),
  'certificate.lifetime_days': integerSetting({
    default: 180,
    minimum: 1,
    maximum: 3650,
    description: 'Days that certificates of libvirt and migration are valid.',
    scopes: EVERYWHERE,
  }),
  'certificate.vnc_lifetime_days': integerSetting({
    default: 180,
    minimum: 1,
    maximum: 3650,
    description: 'Days that VNC certificates are valid.',
    scopes: EVERYWHERE,
  }),
  'certificate.backdate_minutes': integerSetting({
    default: 65,
    minimum: 1,
    maximum: 1440,
    description:
      'Minutes by which certificates begin before they are made, so that hosts whose clocks are behind accept them; at least clock.allowed_skew_seconds.',
    scopes: GLOBAL,
  }),
  'clock.allowed_skew_seconds': integerSetting({
    default: 3900,
    minimum: 1,
    maximum: 86_400,
    description:
      "Seconds by which a host's clock may differ from the manager's; a host beyond it gets no certificate. At most certificate.backdate_minutes.",
    scopes: GLOBAL,
  }),
  'migration.mode': listSetting({
    default: ['tls'],
    minItems: 1,
    description: 'How VMs migrate, in order of preference: tls.',
    scopes: EVERYWHERE,
    is: (value) => value === 'tls',
    form: 'a mode (tls)',
  }),
  'migration.client_certificate_minutes': integerSetting({
    default: 10,
    minimum: 1,
    maximum: 1440,
    description: 'Minutes that the client certificate of one migration is valid.',
    scopes: EVERYWHERE,
  }),
  'channel.manager_addresses': listSetting({
    default: [],
    minItems: 0,
    description:
      "Addresses from which the manager's connections arrive at hosts, besides the one seen at enrolment; their firewalls let these in.",
    scopes: EVERYWHERE,
    is: (value) => isIP(value) !== 0 && !value.includes('%'),
    form: 'an IPv4 or IPv6 address',
  }),
  'probe.interval_seconds': integerSetting({
    default: 60,
    minimum: 1,
    maximum: 86_400,
    description:
      'Seconds between two looks at what every endpoint really serves: by the agent on the host, and by the manager from outside.',
    scopes: EVERYWHERE,
  }),
  'jobs.retention_days': integerSetting({
    default: 30,
    minimum: 1,
    maximum: 3650,
    description: 'Days that jobs are kept after they are over.',
    scopes: GLOBAL,
  }),
} as const;

export type SettingName = keyof typeof SETTINGS;

/** The type of a setting's value. */
export type ValueOf<Name extends SettingName> =
  (typeof SETTINGS)[Name] extends SettingDefinition<infer Value> ? Value : never;

/** True for the name of a setting. */
export function isSettingName(name: string): name is SettingName {
  return Object.hasOwn(SETTINGS, name);
}
