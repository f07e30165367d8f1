import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { listensForOthers } from '../hosts/listening.ts';
import type { HostFacts } from './facts.ts';

type Listener = NonNullable<HostCapabilities['libvirtTls']>;

/** What keeps two hosts from a mode, and the way out. */
export interface Obstacle {
  readonly why: string;
  readonly hint: string;
}

/** By which address the other host's libvirt would be reached, in a URI of each kind. */
export type LibvirtAddresses = Readonly<Record<'tls' | 'plain', string>>;

/** Why two hosts cannot migrate to each other in a mode, by what is known of them; empty where they can. */
export function obstaclesOf(
  mode: MigrationMode,
  source: HostFacts,
  destination: HostFacts,
  addresses: LibvirtAddresses,
): Obstacle[] {
  const pair = [source, destination];
  const barred = pair.flatMap(({ name, barred: why }) =>
    why === null ? [] : [{ why, hint: `see: virt-trust host show ${name}` }],
  );
  if (barred.length > 0) return barred;
  switch (mode) {
    case 'tls':
      return pair.flatMap(
        (host) => notManaged(host) ?? againstTls(host, host === destination ? addresses.tls : null),
      );
    case 'pinned': {
      const single = pair.flatMap((host) => notManaged(host) ?? againstPinned(host));
      return single.length > 0 ? single : againstPeers(source, destination);
    }
    case 'plain':
      return againstPlain(source, destination, addresses.plain);
  }
}

function notManaged({ name, kind }: HostFacts): Obstacle[] | null {
  const hint = `take it under management: virt-trust host add ${name} --ssh USER@ADDRESS`;
  switch (kind) {
    case 'managed':
      return null;
    case 'observed':
      return [{ why: `the agent on ${name} only looks`, hint }];
    case 'unmanaged':
      return [{ why: `${name} has no agent`, hint: `${hint} (after virt-trust host remove ${name})` }];
  }
}

function unreported(name: string): Obstacle {
  return {
    why: `${name} has not reported what it can do, so it counts as not secured`,
    hint: `see that its agent is up: virt-trust host show ${name}`,
  };
}

function stopped(name: string, start: string): Obstacle {
  return { why: `libvirt of ${name} is stopped, or does not answer its agent`, hint: `start it: ${start}` };
}

function againstTls(
  { name, capabilities, startsLibvirt, unproven, tls }: HostFacts,
  address: string | null,
): Obstacle[] {
  if (!tls.value)
    return [
      {
        why: `kvm.libvirtd.tls.enabled is off for ${name} (${tls.from})`,
        hint: `see who says so: virt-trust setting get kvm.libvirtd.tls.enabled --host ${name}`,
      },
    ];
  if (capabilities === null) return [unreported(name)];
  if (startsLibvirt !== null) return [stopped(name, startsLibvirt)];
  const provision = `bring it right: virt-trust host provision ${name}`;
  const found: Obstacle[] = [];
  if (unproven.length > 0)
    found.push({
      why: `${name} has no proven certificate for ${unproven.join(' and ')}`,
      hint: provision,
    });
  if (!listensForOthers(capabilities.libvirtTls))
    found.push({ why: `libvirt of ${name} does not listen with TLS`, hint: provision });
  else if (address !== null && !isReached(capabilities.libvirtTls, address))
    found.push({
      why: `libvirt of ${name} listens with TLS on ${capabilities.libvirtTls.addresses.join(', ')} alone, not on ${address} by which it would be reached`,
      hint: `let it listen there too (on ${name}: systemctl cat libvirtd-tls.socket; listen_addr in libvirtd.conf)`,
    });
  if (!capabilities.nativeTls)
    found.push({
      why: `QEMU of ${name} has no TLS for migrations (${capabilities.nativeTlsLacks || 'it does not say why'})`,
      hint: provision,
    });
  return found;
}

function againstPinned(host: HostFacts): Obstacle[] {
  const { name, capabilities, startsLibvirt } = host;
  if (capabilities === null) return [unreported(name)];
  if (startsLibvirt !== null) return [stopped(name, startsLibvirt)];
  const found = forcing(host);
  if (!capabilities.pinned)
    found.push({
      why: `the agent on ${name} cannot take part in mode pinned: libvirt does not answer it`,
      hint: `see that libvirt runs there: virt-trust host show ${name}`,
    });
  return found;
}

function againstPeers(source: HostFacts, destination: HostFacts): Obstacle[] {
  const [ours, theirs] = [source, destination].map(({ capabilities }) => capabilities?.peerVersions ?? []);
  if (ours?.some((version) => theirs?.includes(version))) return [];
  const words = (host: HostFacts, versions: readonly number[] = []) =>
    `${host.name} ${versions.join(', ') || 'none'}`;
  return [
    {
      why: `their agents have no version of the peer API in common (${words(source, ours)}; ${words(destination, theirs)})`,
      hint: `bring both agents to one version: virt-trust host add ${destination.name} --ssh USER@ADDRESS`,
    },
  ];
}

function againstPlain(source: HostFacts, destination: HostFacts, address: string): Obstacle[] {
  const pair = [source, destination];
  if (pair.every(({ kind }) => kind !== 'managed'))
    return [
      {
        why: `neither ${source.name} nor ${destination.name} has an agent that could conduct it`,
        hint: `take one of them under management: virt-trust host add ${source.name} --ssh USER@ADDRESS`,
      },
    ];
  const remote = source.kind === 'managed' ? destination : source;
  return pair.flatMap((host) => {
    if (host.startsLibvirt !== null) return [stopped(host.name, host.startsLibvirt)];
    if (host.capabilities === null) return host.kind === 'unmanaged' ? [] : [unreported(host.name)];
    const found = forcing(host);
    return host === remote ? [...found, ...againstListener(host.name, host.capabilities, address)] : found;
  });
}

function againstListener(name: string, { libvirtTcp }: HostCapabilities, address: string): Obstacle[] {
  if (!listensForOthers(libvirtTcp))
    return [
      {
        why: `libvirt of ${name} does not listen for plain TCP`,
        hint: `see what it lacks for a safe mode: virt-trust host show ${name}`,
      },
    ];
  if (!isReached(libvirtTcp, address))
    return [
      {
        why: `libvirt of ${name} listens for plain TCP on ${libvirtTcp.addresses.join(', ')} alone, not on ${address} by which it would be reached`,
        hint: `let it listen there, or see what it lacks for a safe mode: virt-trust host show ${name}`,
      },
    ];
  if (libvirtTcp.authentication === 'none') return [];
  return [
    {
      why: `libvirt of ${name} demands ${libvirtTcp.authentication} of whoever connects by plain TCP (auth_tcp)`,
      hint: `see what it lacks for a safe mode: virt-trust host show ${name}`,
    },
  ];
}

/** Whether somebody listens at an address; of a name that is not known here. */
function isReached({ addresses }: Listener, address: string): boolean {
  if (!isIpAddress(address) || addresses.length === 0) return true;
  const wanted = canonicalIpAddress(address);
  return addresses.some((one) => {
    // One for IPv6 takes IPv4 as well, unless somebody keeps it from that.
    if (one === '*' || one === '::') return true;
    if (one === '0.0.0.0') return !wanted.includes(':');
    return !isIpAddress(one) || canonicalIpAddress(one) === wanted;
  });
}

function forcing({ name, capabilities, modes, isForceDue }: HostFacts): Obstacle[] {
  if (capabilities?.migrateTlsForce !== true) return [];
  const why = `QEMU of ${name} refuses migrations without native TLS (migrate_tls_force)`;
  if (isForceDue)
    return [
      {
        why: `${why}: it still has the former migration.mode (now ${modes.value.join(', ')}, from ${modes.from})`,
        hint: `that follows by itself, once no VM migrates there and its agent is up: see virt-trust host show ${name}, then try again`,
      },
    ];
  return [
    {
      why,
      hint: `use mode tls, or take migrate_tls_force out of /etc/libvirt/qemu.conf on ${name} and restart libvirtd`,
    },
  ];
}
