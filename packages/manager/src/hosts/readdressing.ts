import { isIP } from 'node:net';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';
import type { Host } from './host.ts';
import { sourceAddressTowards } from './manager-address.ts';
import type { HostSettings, HostsContext } from './ports.ts';

/** As many as an announcement may be made to, with room for those of the settings. */
const MOST_MANAGER_ADDRESSES = 16;

/**
 * Where a host may answer that does not where it did: its declared addresses, management's first.
 * SECURITY: never an address that is only in its report; that one has not passed the policy.
 */
export function otherAddressesOf({ declared, word }: Pick<Host, 'declared' | 'word'>): string[] {
  return [...new Set([...declared.names.addresses, ...word.outside.addresses])];
}

/**
 * A host's channel is up, by its key, at an address: where the one that is recorded is the host's no more, that is where
 * it is from now on, and ssh follows where it went to the former one. While the former one is declared this is a detour
 * (its cable is out, say), and a name stays what it is: it is resolved anew at each dial. Also notes from where we come.
 */
export async function channelIsUpAt(
  id: HostId,
  address: string,
  { repository }: Pick<HostsContext, 'repository'>,
): Promise<Host> {
  const source = await sourceAddressTowards(address);
  const change = (now: Host) => moved(withManagerAddress(now, source), address);
  return repository.update(id, change, (before, after) =>
    before.channel.address === after.channel.address ? [] : [auditOf(before, after)],
  );
}

/** ssh follows where it went to the former address, with its user, port and options. */
export function sshAfter({ ssh, channel }: Pick<Host, 'ssh' | 'channel'>, address: string): SshTarget {
  const [, user = '', target = ''] = /^([^@]*@)?(.*)$/.exec(ssh.destination) ?? [];
  const was = target.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  return was === channel.address.toLowerCase() ? { ...ssh, destination: `${user}${address}` } : ssh;
}

function moved(host: Host, address: string): Host {
  const before = host.channel.address;
  if (isIP(address) === 0 || isIP(before) === 0 || before === address) return host;
  if (otherAddressesOf(host).includes(before)) return host;
  return { ...host, channel: { ...host.channel, address }, ssh: sshAfter(host, address) };
}

function withManagerAddress(host: Host, source: string | null): Host {
  if (source === null || host.managerAddresses.includes(source)) return host;
  const managerAddresses = [source, ...host.managerAddresses].slice(0, MOST_MANAGER_ADDRESSES);
  return { ...host, managerAddresses };
}

function auditOf(before: Host, after: Host) {
  const ssh =
    before.ssh.destination === after.ssh.destination
      ? ''
      : `; ssh goes to ${after.ssh.destination}, before to ${before.ssh.destination}`;
  return {
    actor: 'system',
    action: 'host.address',
    subject: after.name,
    outcome: 'done',
    detail: `answers with its key at ${after.channel.address}, and at ${before.channel.address} no more${ssh}`,
  } as const;
}

/** From where the manager comes to a host, as far as is known: where it did, where it would now, and what was set. */
export async function managerAddressesFor(
  host: Host,
  { settingsOf }: Pick<HostsContext, 'settingsOf'>,
): Promise<string[]> {
  const settings = await settingsOf(host);
  const towards = await Promise.all(
    [host.channel.address, ...otherAddressesOf(host)]
      .slice(0, MOST_MANAGER_ADDRESSES)
      .map(sourceAddressTowards),
  );
  const all = [...knownManagerAddresses(host, settings), ...towards.filter((one) => one !== null)];
  return [...new Set(all)].filter((one) => isIP(one) !== 0);
}

/** Of these what lasts: where it came from, and what was set. */
export function knownManagerAddresses(
  host: Pick<Host, 'managerAddresses'>,
  settings: Pick<HostSettings, 'managerAddresses'>,
): string[] {
  const recorded = host.managerAddresses.slice(0, MOST_MANAGER_ADDRESSES);
  return [...new Set([...recorded, ...settings.managerAddresses])].filter((one) => isIP(one) !== 0);
}
