import { formatInstant } from '@virt-trust/base/instant.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import { forcesTls } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import type { HostRevocations } from '../hosts/ports.ts';
import { startsLibvirt } from '../hosts/stopped-libvirt.ts';
import type { SettingName, ValueOf } from '../settings/definitions.ts';
import type { Settings } from '../settings/settings.ts';
import type { MigrationEnd } from './migration-end.ts';
import { servedSerialNumber } from './served-serial-number.ts';

/** Something that a setting says for a host, and whose word it is: `global`, `cluster rack1`, `host kvm1`, `default`. */
export interface Said<Value> {
  readonly value: Value;
  readonly from: string;
}

/** What the decision knows of a host; nothing in it is assumed. */
export interface HostFacts {
  readonly name: string;
  /** With an agent that takes part, with one that only looks, or without one. */
  readonly kind: 'managed' | 'observed' | 'unmanaged';
  /** As its agent reported them last; null where it has not, or there is none. */
  readonly capabilities: HostCapabilities | null;
  /** What starts its libvirt, where nobody answered its agent there; null where somebody did, or nobody looked. */
  readonly startsLibvirt: string | null;
  /** Whether its migrate_tls_force is of settings that hold no more, and is taken back as soon as it can be. */
  readonly isForceDue: boolean;
  /** Of libvirt and migration, those for which no certificate was proven on it. */
  readonly unproven: readonly string[];
  /** Why it takes part in no migration at all; null where nothing bars it. */
  readonly barred: string | null;
  readonly modes: Said<readonly MigrationMode[]>;
  /** kvm.libvirtd.tls.enabled. */
  readonly tls: Said<boolean>;
}

/** Where facts come from that are not reported. */
export interface FactsSources {
  readonly settings: Pick<Settings, 'explain'>;
  readonly revocations: Pick<HostRevocations, 'revocationOf'>;
}

/** What is known of one end, from the store alone. */
export async function factsOf(end: MigrationEnd, sources: FactsSources): Promise<HostFacts> {
  const subject = { host: end.name, cluster: end.host.cluster };
  const [modes, tls] = await Promise.all([
    said('migration.mode', subject, sources.settings),
    said('kvm.libvirtd.tls.enabled', subject, sources.settings),
  ]);
  const common = {
    name: end.name,
    kind: end.kind,
    modes: modes as Said<readonly MigrationMode[]>,
    tls,
  };
  if (end.kind === 'unmanaged')
    return {
      ...common,
      capabilities: null,
      startsLibvirt: null,
      isForceDue: false,
      unproven: [],
      barred: null,
    };
  return {
    ...common,
    capabilities: end.host.observed?.capabilities ?? null,
    startsLibvirt: startsLibvirt(end.host),
    isForceDue:
      end.host.observed?.settings?.migrateTls === 'force' && !forcesTls(end.host, common.modes.value),
    unproven: unprovenOf(end.host),
    barred: barredOf(end.host, sources.revocations),
  };
}

/** A setting as it holds for a host, with the scope that won. */
export async function said<Name extends SettingName>(
  name: Name,
  subject: { readonly host: string; readonly cluster: string },
  settings: Pick<Settings, 'explain'>,
): Promise<Said<ValueOf<Name>>> {
  const { value, chain } = await settings.explain(name, subject);
  const winner = chain.find(({ wins }) => wins);
  const from = winner === undefined ? 'default' : `${winner.scope} ${winner.target}`.trim();
  return { value: value as ValueOf<Name>, from };
}

function unprovenOf(host: Host): string[] {
  return (['libvirt', 'migration'] as const).filter(
    (service) =>
      host.observed?.credentials.find((credential) => credential.service === service)?.generation == null,
  );
}

/** SECURITY: QEMU's source side looks at no CRL, so it is looked at here, and by the source's agent once more. */
function barredOf(host: Host, revocations: FactsSources['revocations']): string | null {
  if (host.state === 'removing') return `host ${host.name} is being removed`;
  const found = (['libvirt', 'migration'] as const).flatMap((service) => {
    const serial = servedSerialNumber(host, service);
    const revocation = serial === null ? null : revocations.revocationOf(serial);
    return revocation === null ? [] : [{ what: `its certificate for ${service}`, ...revocation }];
  })[0];
  const why = host.revoked === undefined ? found : { what: 'it', ...host.revoked };
  return why === undefined
    ? null
    : `host ${host.name} is not to be trusted: ${why.what} was revoked for ${why.reason} at ${formatInstant(why.at)}`;
}
