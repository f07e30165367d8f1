import { isIP } from 'node:net';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { SetHostAddress } from '@virt-trust/contract/model/host.ts';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import type { AdministratorWord, Host } from '../hosts/host.ts';
import type { HostsContext } from '../hosts/ports.ts';
import type { JobContext } from '../jobs/job.ts';
import { claimKey } from './claim-key.ts';
import { givenAddress, givenDnsName, type Neighbours } from './given-names.ts';
import { interfacesByName, reportOf } from './network-report.ts';

/** Where a host was said to be, and where it was before; the way back is told from that. */
export interface Move {
  readonly to: Host['channel'];
  readonly from: Host['channel'];
  /** Where ssh went before, where that has changed too. */
  readonly sshFrom: string | null;
  readonly channelOnly: boolean;
}

/** A host where an administrator says that it is; what is not given here stays. */
export type Place = Pick<Host, 'channel' | 'ssh' | 'word'>;

/** How long a host may take to answer where it is said to be. */
const ANSWER_MS = 30_000;

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

/** ssh follows where it went to the former address, with its user, port and options. */
export function sshAfter({ ssh, channel }: Pick<Host, 'ssh' | 'channel'>, address: string): SshTarget {
  const [, user = '', target = ''] = /^([^@]*@)?(.*)$/.exec(ssh.destination) ?? [];
  const was = target.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  return was === channel.address.toLowerCase() ? { ...ssh, destination: `${user}${address}` } : ssh;
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

/** Dials a host where it is said to be; throws `host.not_at_address` with the way back. Its key decides who answers. */
export async function dialAtNewPlace(
  host: Host,
  move: Move,
  context: Pick<HostsContext, 'channels'>,
  job: JobContext,
): Promise<void> {
  await job.step('Dial the host where it is now', async (report) => {
    const { address, port } = move.to;
    // Said anew: where nobody answered it may have been dialled where it was, and have come up there.
    const channel = await context.channels.of({ ...host, channel: move.to });
    await channel.waitUntilUp(job.signal, ANSWER_MS).catch((error: unknown) => {
      job.signal.throwIfAborted();
      const { state: now } = channel;
      throw notThere(host, move, describeError(now.kind === 'down' ? now.reason : error));
    });
    const { state } = channel;
    if (state.kind === 'up' && state.host !== address) {
      throw notThere(host, move, `its agent answers at ${state.host}, and nobody with its key does there`);
    }
    report(`${address} port ${port} has its key`);
  });
}

function notThere(host: Host, { to, from, sshFrom, channelOnly }: Move, reason: string): TrustError {
  const back = [
    `virt-trust host set-address ${host.name} ${from.address}`,
    ...(from.port === to.port ? [] : [`--port ${from.port}`]),
    ...(sshFrom === null ? [] : [`--ssh ${sshFrom}`]),
    ...(channelOnly ? ['--channel-only'] : []),
  ];
  return new TrustError(
    'host.not_at_address',
    'unavailable',
    `cannot find host ${host.name} at ${to.address} port ${to.port}, where it was said to be; before it was at ${from.address} port ${from.port}: ${reason}`,
    { hint: `if that was wrong, go back: ${back.join(' ')}` },
  );
}
