import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { isDnsName } from '@virt-trust/pki/general-name.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import type { Host } from '../hosts/host.ts';
import { addressOfNobody, dnsNameOfNobody } from '../issuance/forbidden-names.ts';

/** What names and addresses that an administrator gives a host are held against. */
export interface Neighbours {
  readonly fleet: readonly Host[];
  /** The manager's own; empty for the host that it runs on. */
  readonly managerNames: SubjectAltNames;
}

/** An address that an administrator gives a host, in canonical form; throws where it can't be one of this host. */
export function givenAddress(text: string, host: Host, neighbours: Neighbours): string {
  const address = canonicalIpAddress(text);
  const nobody = addressOfNobody(address);
  if (nobody !== undefined) throw refused(address, host, nobody);
  if (neighbours.managerNames.addresses.includes(address)) throw ofManager(address, host);
  refuseOthers(address, host, neighbours.fleet);
  return address;
}

/** A DNS name that an administrator gives a host, as certificates say it; throws where it can't be one of this host. */
export function givenDnsName(text: string, host: Host, neighbours: Neighbours): string {
  const name = dnsNameOf(text);
  if (name === null) {
    throw refused(text, host, { rule: 'issuance.name_malformed', reason: 'it is no DNS name' });
  }
  const nobody = dnsNameOfNobody(name);
  if (nobody !== undefined) throw refused(name, host, nobody);
  if (neighbours.managerNames.dns.includes(name)) throw ofManager(name, host);
  refuseOthers(name, host, neighbours.fleet);
  return name;
}

/** The text as a DNS name of a certificate, or null where it can be none. */
export function dnsNameOf(text: string): string | null {
  const name = text.toLowerCase().replace(/\.$/, '');
  return isDnsName(name) && !name.includes('_') ? name : null;
}

/** The host other than this one that has a name or address; null where there is none. */
export function holderOf(name: string, host: Pick<Host, 'id'>, fleet: readonly Host[]): Host | null {
  const wanted = name.toLowerCase();
  const holder = fleet.find(
    ({ id, name: own, declared }) =>
      id !== host.id &&
      (own.toLowerCase() === wanted ||
        declared.names.dns.includes(wanted) ||
        declared.names.addresses.includes(wanted)),
  );
  return holder ?? null;
}

/** SECURITY: the incumbent keeps what it has, also where the administrator says otherwise of a newcomer. */
function refuseOthers(name: string, host: Host, fleet: readonly Host[]): void {
  const holder = holderOf(name, host, fleet);
  if (holder === null) return;
  const place = holder.declared.interfaces.find(
    ({ names }) => names.dns.includes(name) || names.addresses.includes(name),
  );
  throw new TrustError(
    'host.name_conflict',
    'conflict',
    `cannot give ${name} to host ${host.name}: host ${holder.name} has it`,
    {
      context: { name, holder: holder.name },
      hint:
        place !== undefined && place.names.addresses.includes(name)
          ? `if it moved, take it from that machine, then: virt-trust interface set ${holder.name} ${place.name} --release ${name}`
          : `if it moved, take it from host ${holder.name} first; see where it has it with: virt-trust interface list ${holder.name}`,
    },
  );
}

function ofManager(name: string, host: Host): TrustError {
  return refused(name, host, { rule: 'issuance.name_of_manager', reason: "it is the manager's own" });
}

function refused(
  name: string,
  host: Host,
  { rule, reason }: { readonly rule: string; readonly reason: string },
): TrustError {
  return new TrustError(
    'interface.name_refused',
    'invalid',
    `cannot give ${name.slice(0, 253)} to host ${host.name}: ${reason} (${rule})`,
    { context: { name, rule } },
  );
}
