import { TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { ApiClient } from '@virt-trust/contract/client.ts';
import type { CrlDelivery, InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';
import { parseCrls } from '@virt-trust/pki/crl.ts';
import { formatCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import type { HostChannels } from '../hosts/channels.ts';
import { settledState } from '../hosts/fixtures.ts';
import type { Host } from '../hosts/host.ts';

/** What a simulated agent does with CRLs: it takes newer ones as agents do. */
export class SimulatedHost {
  readonly host: Host;
  up = true;
  /** What it answers in place of taking them. */
  refusal: (() => Promise<never>) | null = null;
  /** What its daemon says, so that it does not load them. */
  failure: string | null = null;
  readonly held = new Map<string, InstalledCrl>();
  /** In PEM, by purpose. */
  readonly shown = new Map<string, string>();
  /** How often it was asked for its CRLs. */
  asked = 0;
  readonly cut: RevokedParty[] = [];

  constructor(host: Host) {
    this.host = host;
  }

  put(deliveries: readonly CrlDelivery[], revoked: readonly RevokedParty[]): object {
    for (const { purpose, crl } of deliveries) {
      const [parsed] = parseCrls(crl);
      const number = parsed?.extensions.crlNumber;
      if (parsed === undefined || number === undefined) throw new Error('no CRL');
      const before = this.held.get(purpose);
      if (before !== undefined && BigInt(`0x${before.number}`) > number)
        throw new TrustError('crl.older', 'conflict', 'an older one');
      this.shown.set(purpose, crl);
      this.held.set(purpose, {
        purpose,
        issuer: formatName(parsed.issuer),
        number: formatCrlNumber(number),
        thisUpdate: parsed.thisUpdate,
        nextUpdate: parsed.nextUpdate ?? 0,
        entries: parsed.entries.count,
        installedAt: parsed.thisUpdate,
        failure: this.failure,
      });
    }
    this.cut.push(...revoked);
    return { crls: [...this.held.values()], disconnected: revoked.map((_, index) => `session ${index}`) };
  }
}

/** Channels to simulated hosts, with the contract's own client between. */
export function channelsTo(hosts: readonly SimulatedHost[]): HostChannels {
  const byId = new Map<HostId, SimulatedHost>(hosts.map((one) => [one.host.id, one]));
  const channels: Pick<HostChannels, 'of' | 'stateOf'> = {
    stateOf: (id) =>
      byId.get(id)?.up === true
        ? ({ kind: 'up', group: 'X25519MLKEM768' } as never)
        : ({ kind: 'connecting' } as never),
    of: async (host) => ({ agent: clientOf(byId.get(host.id) as SimulatedHost) }) as never,
  };
  return channels as HostChannels;
}

function clientOf(simulated: SimulatedHost): ApiClient {
  return new ApiClient(async ({ method, path, body, signal }) => {
    const json = (status: number, value: object) => ({
      status,
      contentType: 'application/json',
      body: JSON.stringify(value),
    });
    if (path === '/v1/observed-state')
      return json(200, settledState('ours', { crls: [...simulated.held.values()] }));
    if (method === 'GET' && path === '/v1/crls') {
      simulated.asked += 1;
      return json(200, { crls: [...simulated.shown].map(([purpose, crl]) => ({ purpose, crl })) });
    }
    signal?.throwIfAborted();
    if (simulated.refusal !== null) await simulated.refusal();
    try {
      const { crls, revoked } = JSON.parse(body ?? '') as { crls: CrlDelivery[]; revoked: RevokedParty[] };
      return json(200, simulated.put(crls, revoked));
    } catch (error) {
      if (!(error instanceof TrustError)) throw error;
      const { code, message } = error;
      return json(409, { type: 'about:blank', title: 'conflict', status: 409, detail: message, code });
    }
  }, simulated.host.name);
}
