import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { Finding } from '@virt-trust/contract/model/preflight.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import type { CertificateSource } from '../hosts/ports.ts';
import type { PairAddresses } from './chosen-addresses.ts';
import type { MigrationEnd } from './migration-end.ts';
import { servedSerialNumber } from './served-serial-number.ts';

/** What a host's last reports say of how it would do in migrations, made once for all its pairs. */
export interface HostStanding {
  readonly name: string;
  /** What is wrong with it, whichever mode it is. */
  readonly always: readonly Finding[];
  /** What is wrong with it in mode `tls`. */
  readonly withTls: readonly Finding[];
  /** By which libvirt tells hosts apart; empty where it is not known. */
  readonly hostUuid: string;
  readonly versions: Readonly<Record<'libvirt' | 'qemu', readonly number[] | null>>;
  /** What its certificates are good for; null where that is not known. */
  readonly served: Readonly<Record<'libvirt' | 'migration', ReadonlySet<string> | null>>;
  /** The modes that the host has a say in: an unmanaged one has nothing to be judged by. */
  readonly isKnown: boolean;
}

interface StandingSources {
  readonly now: Instant;
  readonly certificates: Pick<CertificateSource, 'namesOf'>;
  readonly isUp: boolean;
}

/** Reads what a host's reports say. */
export async function hostStanding(end: MigrationEnd, sources: StandingSources): Promise<HostStanding> {
  const { name } = end;
  if (end.kind === 'unmanaged')
    return {
      name,
      always: [],
      withTls: [],
      hostUuid: '',
      versions: { libvirt: null, qemu: null },
      served: { libvirt: null, migration: null },
      isKnown: false,
    };
  const { observed, inventory } = end.host;
  const [libvirt, migration] = await Promise.all(
    (['libvirt', 'migration'] as const).map(async (service) => {
      const serial = servedSerialNumber(end.host, service);
      const names = serial === null ? null : await sources.certificates.namesOf(serial);
      return names === null ? null : setOf(names);
    }),
  );
  return {
    name,
    always: alwaysWrong(end, sources.isUp),
    withTls: wrongWithTls(end, sources.now),
    hostUuid: inventory?.libvirt?.hostUuid ?? '',
    versions: {
      libvirt: versionOf(observed?.capabilities?.libvirtVersion ?? inventory?.libvirt?.version),
      qemu: versionOf(observed?.capabilities?.qemuVersion ?? inventory?.qemu?.version),
    },
    served: { libvirt: libvirt ?? null, migration: migration ?? null },
    isKnown: true,
  };
}

type KnownEnd = Exclude<MigrationEnd, { kind: 'unmanaged' }>;

function alwaysWrong({ name, host, kind }: KnownEnd, isUp: boolean): Finding[] {
  const found: Finding[] = [];
  if (!isUp && kind === 'managed')
    found.push({
      code: 'agent.unreachable',
      severity: 'error',
      host: name,
      what: `the agent on ${name} does not answer, and nothing begins without it`,
      fix: `see why: virt-trust host show ${name}; on it: systemctl status virt-trust-agent`,
    });
  if (host.inventory?.libvirt === null || host.inventory?.libvirt.running === false)
    found.push({
      code: 'libvirt.down',
      severity: 'error',
      host: name,
      what: `libvirt on ${name} did not answer when it was last looked at`,
      fix: `on ${name}: systemctl status libvirtd virtqemud, journalctl -u libvirtd -u virtqemud`,
    });
  const failure = host.observed?.failure;
  if (failure != null)
    found.push({
      code: 'host.failed',
      severity: 'warning',
      host: name,
      what: `${name} is not as it should be: ${failure.message}`.slice(0, 8000),
      fix: failure.hint ?? `virt-trust host provision ${name}`,
    });
  return found;
}

function wrongWithTls({ name, host: { observed } }: KnownEnd, now: Instant): Finding[] {
  const found: Finding[] = [];
  const provision = `virt-trust host provision ${name}`;
  for (const { service, notAfter } of observed?.credentials ?? []) {
    if ((service !== 'libvirt' && service !== 'migration') || notAfter === null || notAfter > now) continue;
    found.push({
      code: 'certificate.expired',
      severity: 'error',
      host: name,
      what: `the certificate of ${name} for ${service} expired at ${formatInstant(notAfter as Instant)}: the other host refuses it`,
      fix: `${provision} --renew`,
    });
  }
  for (const { service, target, state, detail, action } of observed?.served ?? []) {
    if ((service !== 'libvirt' && service !== 'migration') || state === 'as-desired') continue;
    found.push({
      code: 'served.other',
      severity: state === 'unreachable' ? 'error' : 'warning',
      host: name,
      what: `${name} was seen not to serve what it should for ${service} at ${target}: ${state}${detail === '' ? '' : `, ${detail}`}`,
      fix: action || provision,
    });
  }
  for (const { purpose, nextUpdate, failure } of observed?.crls ?? []) {
    if (purpose !== 'migration' && purpose !== 'control') continue;
    if (nextUpdate < now || failure !== null)
      found.push({
        code: 'crl.stale',
        severity: 'warning',
        host: name,
        what:
          failure === null
            ? `the CRL for ${purpose} on ${name} was to be replaced by ${formatInstant(nextUpdate as Instant)}: what was revoked since is not known there`
            : `the CRL for ${purpose} on ${name} is not in use there: ${failure}`,
        fix: 'see why: virt-trust crl status',
      });
  }
  for (const { service, reason } of observed?.rescues ?? [])
    if (service === 'libvirt' || service === 'migration')
      found.push({
        code: 'host.rescued',
        severity: 'error',
        host: name,
        what: `${name} goes on for ${service} with a set that it made by itself (${reason}), which no other host trusts`,
        fix: provision,
      });
  return found;
}

/** What of two hosts would make a migration from one to the other fail, of what both reported. */
export function standingFindings(
  mode: MigrationMode | null,
  source: HostStanding,
  destination: HostStanding,
  addresses: PairAddresses,
): Finding[] {
  const found: Finding[] = [...source.always, ...destination.always];
  if (mode === 'tls') found.push(...source.withTls, ...destination.withTls, ...names(destination, addresses));
  if (source.hostUuid !== '' && source.hostUuid === destination.hostUuid)
    found.push({
      code: 'host.same_uuid',
      severity: 'error',
      host: null,
      what: `${source.name} and ${destination.name} have the same host UUID ${source.hostUuid}: libvirt takes them for one host and refuses`,
      fix: `on one of them: set host_uuid = "$(uuidgen)" in /etc/libvirt/libvirtd.conf (virtqemud.conf), then systemctl restart libvirtd`,
    });
  for (const program of ['qemu', 'libvirt'] as const) {
    const [ours, theirs] = [source.versions[program], destination.versions[program]];
    if (ours === null || theirs === null || !isOlder(theirs, ours)) continue;
    found.push({
      code: 'version.older',
      severity: 'warning',
      host: destination.name,
      what: `${program === 'qemu' ? 'QEMU' : 'libvirt'} ${theirs.join('.')} on ${destination.name} is older than ${ours.join('.')} on ${source.name}: not every VM migrates to an older one`,
      fix: `bring ${destination.name} to the version of ${source.name} or later`,
    });
  }
  return found;
}

/** libvirt's client takes the URI's host alone for the name; QEMU's may be told another. */
function names({ name, served }: HostStanding, addresses: PairAddresses): Finding[] {
  const { libvirtAddress, migrationAddress, tlsDestination } = addresses;
  const wanted = [
    ['libvirt', libvirtAddress],
    ['migration', tlsDestination ?? migrationAddress],
  ] as const;
  return wanted.flatMap(([service, address]) => {
    const has = served[service];
    if (has === null || has.has(keyOf(address))) return [];
    return [
      {
        code: 'name.mismatch',
        severity: 'error' as const,
        host: name,
        what: `the certificate of ${name} for ${service} is not for ${address}, by which it would be reached: the other host refuses it`,
        fix: `see which addresses it may have: virt-trust interface list ${name}; then virt-trust host provision ${name}`,
      },
    ];
  });
}

function setOf({ dns, addresses }: SubjectAltNames): ReadonlySet<string> {
  return new Set([...dns, ...addresses].map(keyOf));
}

function keyOf(name: string): string {
  return isIpAddress(name) ? canonicalIpAddress(name) : name.toLowerCase();
}

function versionOf(text: string | null | undefined): readonly number[] | null {
  const parts = text == null ? null : /^(\d{1,4})\.(\d{1,4})\.(\d{1,4})/.exec(text);
  return parts === null ? null : parts.slice(1).map(Number);
}

function isOlder(version: readonly number[], than: readonly number[]): boolean {
  const at = version.findIndex((part, index) => part !== than[index]);
  return at >= 0 && (version[at] ?? 0) < (than[at] ?? 0);
}
