import { isIP } from 'node:net';
import type { SetHostAddress } from '@virt-trust/contract/model/host.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { AdministratorWord, Host } from '../hosts/host.ts';
import { interfacesByName, reportOf } from '../hosts/network-report.ts';
import { sshAfter } from '../hosts/readdressing.ts';
import { givenAddress, givenDnsName, type Neighbours } from './given-names.ts';

/** A host where an administrator says that it is; what is not given here stays. */
export type Place = Pick<Host, 'channel' | 'ssh' | 'word'>;

/** Where the host is to be found after `host set-address`; pure. Throws where the address can't be this host's. */
export function placeAfter(host: Host, order: SetHostAddress, neighbours: Neighbours): Place {
  const address = dialledOf(order.address);
  const channel = { address, port: order.port ?? host.channel.port };
  const ssh = order.ssh === undefined ? sshAfter(host, address) : { ...host.ssh, ...order.ssh };
  if (order.channelOnly === true) return { channel, ssh, word: host.word };
  return { channel, ssh, word: wordAfter(host, address, neighbours) };
}

function dialledOf(text: string): string {
  return isIP(text) === 0 ? text.toLowerCase() : canonicalIpAddress(text);
}

/** What the host reports itself counts while it does; anything else stays until the next word. */
function wordAfter(host: Host, address: string, neighbours: Neighbours): AdministratorWord {
  const { word } = host;
  if (isIP(address) === 0) {
    const name = givenDnsName(address, host, neighbours);
    return { ...word, outside: { dns: word.dns.includes(name) ? [] : [name], addresses: [] } };
  }
  const given = givenAddress(address, host, neighbours);
  const isReported = [...interfacesByName(reportOf(host)).values()]
    .flatMap((one) => one.addresses)
    .some((one) => claimKey(one.address) === given && one.leftOut === null);
  if (!isReported) return { ...word, outside: { dns: [], addresses: [given] } };
  return {
    ...word,
    accepted: [...new Set([...word.accepted, given])],
    released: (word.released ?? []).filter((one) => one !== given),
    outside: { dns: [], addresses: [] },
  };
}

/** What was changed, in words for people. */
export function describePlace(before: Place, after: Place): string {
  const names = ({ word }: Place) => [...word.outside.dns, ...word.outside.addresses].join(', ') || 'none';
  const at = ({ channel }: Place) => `${channel.address} port ${channel.port}`;
  const parts = [
    `dialled at ${at(after)}, before ${at(before)}`,
    after.ssh.destination === before.ssh.destination
      ? null
      : `ssh to ${after.ssh.destination}, before ${before.ssh.destination}`,
    names(after) === names(before)
      ? null
      : `names that it can't report ${names(after)}, before ${names(before)}`,
  ];
  return parts.filter((part) => part !== null).join('; ');
}
