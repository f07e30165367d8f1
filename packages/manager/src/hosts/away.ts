import { formatInstant, type Instant, instant, SECOND } from '@virt-trust/base/instant.ts';
import type { ConnectionState } from '@virt-trust/channel/connection.ts';
import type { Host } from './host.ts';

/** Why a host is away, for people, and what is to be looked at; without the words of the protocol. */
interface Away {
  readonly why: string;
  readonly look: string;
}

/** What is seen of a host whose channel is not up, and since when where that is known. */
export function awayOf(
  host: Pick<Host, 'name' | 'ssh' | 'channel'>,
  state: ConnectionState | null,
  since: Instant | null,
): Away {
  const second = since === null ? null : instant(Math.floor(since / SECOND) * SECOND);
  const time = second === null ? '' : ` (away since ${formatInstant(second)})`;
  return { why: `${whyAway(state)}${time}`, look: LOOK[sightOf(state)](host) };
}

/** What is seen of a host whose channel is not up. */
export function whyAway(state: ConnectionState | null): string {
  return SEEN[sightOf(state)];
}

type Sight = 'silent' | 'no-agent' | 'no-way' | 'broken' | 'stranger' | 'estranged';

function sightOf(state: ConnectionState | null): Sight {
  if (state?.kind !== 'down') return 'silent';
  const { code, cause } = state.reason;
  switch (code) {
    case 'channel.peer_refused':
    case 'channel.peer_untrusted':
      return 'estranged';
    case 'channel.handshake':
      return 'stranger';
    case 'channel.cut':
    case 'channel.silent':
      return 'broken';
    case 'channel.unreachable': {
      const errno = String((cause as { code?: unknown } | undefined)?.code);
      if (errno === 'ECONNREFUSED') return 'no-agent';
      return errno === 'EHOSTUNREACH' || errno === 'ENETUNREACH' ? 'no-way' : 'silent';
    }
    default:
      return 'silent';
  }
}

const SEEN: Readonly<Record<Sight, string>> = {
  silent: 'its agent does not answer',
  'no-agent': 'the machine answers, but no agent listens there',
  'no-way': 'nothing on the network leads to it',
  broken: 'the connection to its agent broke',
  stranger: 'what answers in place of its agent does not speak as one',
  estranged: "its agent and the manager do not know each other's keys",
};

const look = ({ name, channel }: Parameters<typeof awayOf>[0]) =>
  `see that host ${name} runs and is on the network, that its agent runs (systemctl status virt-trust-agent), and that its firewall lets the manager in (${channel.address}, TCP ${channel.port})`;

const LOOK: Readonly<Record<Sight, typeof look>> = {
  silent: look,
  'no-way': look,
  broken: look,
  'no-agent': ({ name }) => `on ${name}: systemctl status virt-trust-agent, journalctl -u virt-trust-agent`,
  stranger: ({ name, channel }) =>
    `see what listens there (on ${name}: ss -tlnp sport = :${channel.port}), and what on the way changes connections`,
  estranged: ({ name, ssh }) =>
    `the host was installed again, or this manager restored from before their last two rollovers; root's word sets the keys anew: virt-trust host add ${name} --ssh ${ssh.destination}`,
};
