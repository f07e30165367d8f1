import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';
import { claimKey } from '../hosts/claim-key.ts';
import type { Claims, Host } from '../hosts/host.ts';
import { addressOfNobody, dnsNameOfNobody } from '../issuance/forbidden-names.ts';
import { isDeclarableName } from './declarable-name.ts';
import { NOT_CERTIFIABLE } from './refused-names.ts';

/** What names and addresses that an administrator gives a host are held against. */
export interface Neighbours {
  /** The other host that a name or address belongs to; null where it is free, or this host's. */
  readonly holderOf: Claims['holderOf'];
  /** The manager's own; empty for the host that it runs on. */
  readonly managerNames: SubjectAltNames;
  /** Whether the authorities may certify a name or address at all. */
  readonly mayCertify: (name: string) => boolean;
}

/** An address that an administrator gives a host, in canonical form; throws where it can't be one of this host. */
export function givenAddress(text: string, host: Host, neighbours: Neighbours): string {
  const address = canonicalIpAddress(text);
  const nobody = addressOfNobody(address);
  if (nobody !== undefined) throw refused(address, host, nobody);
  if (neighbours.managerNames.addresses.includes(address)) throw ofManager(address, host);
  refuseOthers(address, host, neighbours);
  if (!neighbours.mayCertify(address)) throw refused(address, host, NOT_CERTIFIABLE);
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
  refuseOthers(name, host, neighbours);
  if (!neighbours.mayCertify(name)) throw refused(name, host, NOT_CERTIFIABLE);
  return name;
}

/** The text as a DNS name of a certificate, or null where it can be none. */
export function dnsNameOf(text: string): string | null {
  const name = claimKey(text);
  return isDeclarableName(name) ? name : null;
}

/** SECURITY: the incumbent keeps what it has, also where the administrator says otherwise of a newcomer. */
function refuseOthers(name: string, host: Host, { holderOf }: Neighbours): void {
  const holder = holderOf(name);
  if (holder === null) return;
  throw new TrustError(
    'host.name_conflict',
    'conflict',
    `cannot give ${name} to host ${host.name}: host ${holder} has it`,
    {
      context: { name, holder },
      hint: isIpAddress(name)
        ? `if it moved, take it from that machine, then: virt-trust interface set ${holder} INTERFACE --release ${name}`
        : `if it moved, take it from that host first; where it has it says: virt-trust interface list ${holder}`,
    },
  );
}

function ofManager(name: string, host: Host): TrustError {
  return refused(name, host, { rule: 'issuance.name_of_manager', reason: "it is the manager's own" });
}

function refused(
  name: string,
  host: Host,
  { rule, reason, hint }: { readonly rule: string; readonly reason: string; readonly hint?: string },
): TrustError {
  return new TrustError(
    'interface.name_refused',
    'invalid',
    `cannot give ${name.slice(0, 253)} to host ${host.name}: ${reason} (${rule})`,
    { context: { name, rule }, ...(hint !== undefined && { hint }) },
  );
}
