import type { Clock } from '@virt-trust/base/clock.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { HostChannels } from '../hosts/channels.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { Settings } from '../settings/settings.ts';
import type { CrlRepository } from './crl.ts';
import type { CrlFacts } from './crl-conditions.ts';
import type { CrlIssuer } from './crl-issuer.ts';
import type { CrlRecovery } from './crl-recovery.ts';
import { purposesOf, takesCrls } from './delivery.ts';
import type { RevocationRepository } from './revocation.ts';
import type { CrlUpkeep } from './upkeep.ts';

export interface CrlFactsParts {
  readonly authorities: Authorities;
  readonly issuer: CrlIssuer;
  readonly crls: CrlRepository;
  readonly repository: RevocationRepository;
  readonly hosts: HostRepository;
  readonly channels: Pick<HostChannels, 'stateOf'>;
  readonly clock: Clock;
  readonly settings: Settings;
  readonly upkeep: Pick<CrlUpkeep, 'failure'>;
  readonly recovery: Pick<CrlRecovery, 'held' | 'progress'>;
}

/** Collects what alarms about CRLs are decided from. */
export async function crlFacts(parts: CrlFactsParts): Promise<CrlFacts> {
  const { authorities, issuer, crls, hosts, channels, clock, settings, upkeep } = parts;
  const held = await crls.deliveries();
  const factsOf = (host: Host): CrlFacts['hosts'][number] => ({
    name: host.name,
    up: channels.stateOf(host.id)?.kind === 'up',
    held: purposesOf(host).map((purpose) => {
      const { name } = authorities.byPurpose(purpose);
      const crl = held.find((one) => one.host === host.id && one.authority === name) ?? null;
      return { purpose, crl };
    }),
    servedRevoked: servedRevoked(host, parts.repository),
  });
  return {
    now: clock.now(),
    held: parts.recovery.held ? await parts.recovery.progress() : null,
    refreshPercent: await settings.value('crl.refresh_percent'),
    signingFailure: upkeep.failure,
    crls: authorities.list().flatMap(({ name, purpose }) => {
      const crl = issuer.current(name);
      return crl === null ? [] : [{ ...crl, purpose }];
    }),
    hosts: (await hosts.list()).filter(takesCrls).map(factsOf),
  };
}

function servedRevoked(host: Host, repository: RevocationRepository) {
  return (host.observed?.credentials ?? []).flatMap(({ service, identity, serialNumber }) => {
    if (identity !== 'ours' || serialNumber === null) return [];
    const status = repository.statusOf(serialNumber as SerialNumber);
    return status.kind === 'revoked' ? [{ service, serialNumber, reason: status.reason, at: status.at }] : [];
  });
}
