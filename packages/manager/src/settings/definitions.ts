import { isIP } from 'node:net';
import { DAY, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { parseTimeWindows, TIME_WINDOWS_FORM } from '@virt-trust/base/time-window.ts';
import { PROVIDERS, type Provider } from '@virt-trust/contract/model/provider.ts';
import { KeyAlgorithm } from '@virt-trust/contract/model/service.ts';
import {
  booleanSetting,
  durationSetting,
  EVERYWHERE,
  entriesSetting,
  GLOBAL,
  integerSetting,
  listSetting,
  type SettingDefinition,
  textSetting,
} from './definition.ts';
import { MIGRATION_SETTINGS } from './migration-settings.ts';
import { domainEntry, roleEntry, subnetEntry } from './network-entries.ts';

const ALGORITHMS: readonly string[] = KeyAlgorithm.anyOf.map((algorithm) => algorithm.const);

/** An origin, with a path perhaps; it goes into certificates as it is. */
function isPublicUrl(text: string): boolean {
  if (text.length > 200 || !/^https?:\/\/[\x21-\x7e]+$/.test(text) || text.endsWith('/')) return false;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url !== undefined && !/[?#@\\]/.test(text) && url.hostname !== '';
}

const BY_WHAT = 'by name (globs such as eth1 or bond*) or subnet (10.0.1.0/24, fd00:1::/64)';

type ConsoleListen = 'keep' | 'password' | 'certificate';
const CONSOLE_LISTEN: readonly string[] = ['keep', 'password', 'certificate'] satisfies ConsoleListen[];

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
    description: `Key algorithm of certificates: ${ALGORITHMS.join(', ')}. A change renews those with another, in waves.`,
    scopes: EVERYWHERE,
    is: (value): value is KeyAlgorithm => ALGORITHMS.includes(value),
    form: `one of ${ALGORITHMS.join(', ')}`,
  }),
  'certificate.lifetime': durationSetting({
    default: '180d',
    minimum: 5 * MINUTE,
    maximum: 3650 * DAY,
    description:
      "How long certificates are valid whose successors are loaded live: of libvirt, migration, VNC and backups. From 5m to 3650d, never past the authority's end; renewed after half of it. Shortened, it renews those that are valid for longer, in waves.",
    scopes: EVERYWHERE,
  }),
  'certificate.restart_lifetime': durationSetting({
    default: '2y',
    minimum: 5 * MINUTE,
    maximum: 3650 * DAY,
    description:
      "How long certificates are valid that a VM loads once, at its start or with a device: of SPICE and of disks over NBD. From 5m to 3650d, never past the authority's end; renewed after half of it.",
    scopes: EVERYWHERE,
  }),
  'renewal.window': textSetting({
    default: 'always',
    description: `When renewals may begin: ${TIME_WINDOWS_FORM}. Days are Mon to Sun, in lists and ranges, each day where there are none; the time zone is one of IANA's, UTC where there is none; an end that is not after the start is the next day's. Where no window opens in the first five sixths of a certificate's life, it is renewed then in spite of them.`,
    scopes: EVERYWHERE,
    is: (value): value is string => value.length <= 1000 && parseTimeWindows(value) !== undefined,
    form: TIME_WINDOWS_FORM,
  }),
  'renewal.jitter_percent': integerSetting({
    default: 10,
    minimum: 0,
    maximum: 25,
    description:
      "Per cent of a certificate's lifetime over which renewals are spread after its half, by the serial number, so that hosts enrolled together do not renew together.",
    scopes: EVERYWHERE,
  }),
  'renewal.concurrency': integerSetting({
    default: 8,
    minimum: 1,
    maximum: 256,
    description:
      'Hosts that renew at once at most; a wave begins with one of them and takes in one more with each that succeeds.',
    scopes: GLOBAL,
  }),
  'renewal.failure_limit': integerSetting({
    default: 3,
    minimum: 1,
    maximum: 1000,
    description:
      'Hosts whose renewal may fail in one wave, or one after the other, before all renewals stop until `virt-trust unfreeze`.',
    scopes: GLOBAL,
  }),
  'renewal.backoff_min': durationSetting({
    default: '1m',
    minimum: SECOND,
    maximum: DAY,
    description:
      "Wait after a renewal's first failure; doubled with each further one, up to renewal.backoff_max and a tenth of the certificate's lifetime.",
    scopes: EVERYWHERE,
  }),
  'renewal.backoff_max': durationSetting({
    default: '6h',
    minimum: SECOND,
    maximum: 30 * DAY,
    description: 'Longest wait after a renewal that failed.',
    scopes: EVERYWHERE,
  }),
  'crl.lifetime': durationSetting({
    default: '7d',
    minimum: 5 * MINUTE,
    maximum: 365 * DAY,
    description:
      'How long a CRL is good: its nextUpdate lies so far ahead. Long enough for hosts and workstations that are away; a CRL past it raises alarms, and strict clients refuse it.',
    scopes: GLOBAL,
  }),
  'crl.refresh_percent': integerSetting({
    default: 50,
    minimum: 5,
    maximum: 90,
    description: 'Per cent of crl.lifetime after which the next CRL is signed although nothing was revoked.',
    scopes: GLOBAL,
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
  ...MIGRATION_SETTINGS,
  'certificate.provider': textSetting({
    default: 'internal' as Provider,
    description: `Kind of CA that certificates come from: ${PROVIDERS.join(', ')}.`,
    scopes: EVERYWHERE,
    is: (value): value is Provider => (PROVIDERS as readonly string[]).includes(value),
    form: `one of ${PROVIDERS.join(', ')}`,
  }),
  'provision.reconnect': booleanSetting({
    default: false,
    description:
      'Whether host provision dials the channel anew and proves every endpoint again, where it is not said.',
    scopes: EVERYWHERE,
  }),
  'console.listen': textSetting({
    default: 'keep' as ConsoleListen,
    description:
      "Where displays of VMs listen that start from now on and say nothing of it themselves. keep: as the host's administrator set it, which mostly is loopback. password: on all addresses, with TLS and a password that is made for one visit (virt-trust console). certificate: the same of VNC, with a client certificate besides; SPICE, which can ask for none, as with keep. A change restarts libvirtd of the hosts concerned, after migrations that run.",
    scopes: EVERYWHERE,
    is: (value): value is ConsoleListen => CONSOLE_LISTEN.includes(value),
    form: `one of ${CONSOLE_LISTEN.join(', ')}`,
  }),
  'console.password_seconds': integerSetting({
    default: 60,
    minimum: 5,
    maximum: 3600,
    description: 'Seconds within which a client must come in with the password of a visit to a console.',
    scopes: EVERYWHERE,
  }),
  'channel.manager_addresses': listSetting({
    default: [],
    minItems: 0,
    description:
      "Addresses from which the manager's connections arrive at hosts, besides those from which they did; hosts make themselves known there, and their firewalls let these in.",
    scopes: EVERYWHERE,
    is: (value) => isIP(value) !== 0 && !value.includes('%'),
    form: 'an IPv4 or IPv6 address',
  }),
  'role.management': entriesSetting({
    default: [],
    description: `Interfaces that are for management, ${BY_WHAT}; libvirt is there. Where no interface is, the one accepted at \`host add\`.`,
    scopes: EVERYWHERE,
    entry: roleEntry,
  }),
  'role.migration': entriesSetting({
    default: [],
    description: `Interfaces over which VMs migrate, ${BY_WHAT}. Where no interface is, those of management.`,
    scopes: EVERYWHERE,
    entry: roleEntry,
  }),
  'role.display': entriesSetting({
    default: [],
    description: `Interfaces on which consoles are reached, ${BY_WHAT}: of VNC and SPICE. Where no interface is, those of management.`,
    scopes: EVERYWHERE,
    entry: roleEntry,
  }),
  'role.storage': entriesSetting({
    default: [],
    description: `Interfaces for storage traffic, ${BY_WHAT}: of backups and NBD. Where no interface is, those of management.`,
    scopes: EVERYWHERE,
    entry: roleEntry,
  }),
  'interface.allowed_subnets': entriesSetting({
    default: [],
    description:
      'Subnets such as 10.0.1.0/24 in which an address that an agent reports on an interface with a role goes into certificates without an administrator; besides those that role settings name. A broken host can take any address in them that no other managed host has, so name no more than hosts have theirs from.',
    scopes: EVERYWHERE,
    entry: subnetEntry,
  }),
  'interface.allowed_domains': entriesSetting({
    default: [],
    description:
      'Domains such as rack1.example in which the host name that an agent reports goes into certificates without an administrator.',
    scopes: EVERYWHERE,
    entry: domainEntry,
  }),
  'probe.interval_seconds': integerSetting({
    default: 60,
    minimum: 1,
    maximum: 86_400,
    description:
      'Seconds between two looks at what every endpoint really serves: by the agent on the host, and by the manager from outside.',
    scopes: EVERYWHERE,
  }),
  'alarm.expiry_warning': durationSetting({
    default: '21d',
    minimum: MINUTE,
    maximum: 3650 * DAY,
    description:
      'How long before its end a certificate is a warning; sooner where alarm.expiry_warning_percent of its lifetime is less.',
    scopes: EVERYWHERE,
  }),
  'alarm.expiry_warning_percent': integerSetting({
    default: 25,
    minimum: 1,
    maximum: 100,
    description: 'Percent of its lifetime that a certificate has left at most when it is a warning.',
    scopes: EVERYWHERE,
  }),
  'alarm.expiry_critical': durationSetting({
    default: '7d',
    minimum: MINUTE,
    maximum: 3650 * DAY,
    description:
      'How long before its end a certificate is critical; sooner where alarm.expiry_critical_percent of its lifetime is less.',
    scopes: EVERYWHERE,
  }),
  'alarm.expiry_critical_percent': integerSetting({
    default: 10,
    minimum: 1,
    maximum: 100,
    description: 'Percent of its lifetime that a certificate has left at most when it is critical.',
    scopes: EVERYWHERE,
  }),
  'alarm.authority_expiry_warning': durationSetting({
    default: '1y',
    minimum: MINUTE,
    maximum: 3650 * DAY,
    description:
      'How long before its end a certificate of an authority is a warning; bounded by alarm.expiry_warning_percent as others are.',
    scopes: GLOBAL,
  }),
  'alarm.authority_expiry_critical': durationSetting({
    default: '90d',
    minimum: MINUTE,
    maximum: 3650 * DAY,
    description:
      'How long before its end a certificate of an authority is critical; bounded by alarm.expiry_critical_percent as others are.',
    scopes: GLOBAL,
  }),
  'alarm.unreachable_after': durationSetting({
    default: '5m',
    minimum: SECOND,
    maximum: 30 * DAY,
    description:
      'How long the agent of a host may be away before that is an alarm; counted anew when the manager starts.',
    scopes: EVERYWHERE,
  }),
  'alarm.drift_after': durationSetting({
    default: '30s',
    minimum: SECOND,
    maximum: DAY,
    description: 'How long something else than desired may be served before that is an alarm.',
    scopes: EVERYWHERE,
  }),
  'alarm.clear_after': durationSetting({
    default: '30s',
    minimum: SECOND,
    maximum: DAY,
    description:
      'How long the cause of an alarm must be away before the alarm is cleared, so that what comes and goes is one alarm.',
    scopes: GLOBAL,
  }),
  'alarm.retention_days': integerSetting({
    default: 90,
    minimum: 1,
    maximum: 3650,
    description: 'Days that alarms are kept after they were cleared.',
    scopes: GLOBAL,
  }),
  'status.public_url': textSetting({
    default: '',
    description:
      'Where CRLs and OCSP are reached from outside, such as http://pki.example:8080, without a slash at its end: certificates name them there. Empty: they name none. A change renews all certificates, in waves.',
    scopes: GLOBAL,
    is: (value): value is string => value === '' || isPublicUrl(value),
    form: 'an http or https address of at most 200 characters, without credentials, query or slash at its end',
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
