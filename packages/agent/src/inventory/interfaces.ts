import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { lineOf, property } from '@virt-trust/check/host/text.ts';
import type { Interface, InterfaceAddress } from '@virt-trust/contract/model/inventory.ts';
import { isIpAddress } from '@virt-trust/pki/ip-address.ts';

const MAX_INTERFACES = 512;
const MAX_ADDRESSES = 64;
const INTERFACE_NAME = /^[^\s/:\p{Cc}]{1,15}$/u;
const SCOPES: readonly string[] = ['global', 'link', 'host'];

/** The host's interfaces with every address of both families. */
export async function readInterfaces(run: RunHostCommand): Promise<Interface[]> {
  return parseInterfaces((await run('ip', ['-j', '-d', 'addr', 'show'])).stdout);
}

/** Reads the output of `ip -j -d addr show`; what is not an interface is passed over. */
export function parseInterfaces(output: string): Interface[] {
  let links: unknown;
  try {
    links = JSON.parse(output);
  } catch {
    return [];
  }
  return (Array.isArray(links) ? links : []).flatMap(readInterface).slice(0, MAX_INTERFACES);
}

function readInterface(link: unknown): Interface[] {
  const name = property(link, 'ifname');
  if (typeof name !== 'string' || !INTERFACE_NAME.test(name)) return [];
  const flags = property(link, 'flags');
  const kind = property(property(link, 'linkinfo'), 'info_kind');
  const mac = property(link, 'address');
  const addresses = property(link, 'addr_info');
  return [
    {
      name,
      up: Array.isArray(flags) && flags.includes('UP') && property(link, 'operstate') !== 'DOWN',
      kind: typeof kind === 'string' ? lineOf(kind, 64) : '',
      macAddress: typeof mac === 'string' ? lineOf(mac, 64) : '',
      master: null,
      parent: null,
      leftOut: null,
      addresses: (Array.isArray(addresses) ? addresses : []).flatMap(readAddress).slice(0, MAX_ADDRESSES),
    },
  ];
}

function readAddress(value: unknown): InterfaceAddress[] {
  const address = property(value, 'local');
  const prefixLength = property(value, 'prefixlen');
  const scope = property(value, 'scope');
  if (typeof address !== 'string' || !isIpAddress(address)) return [];
  const family = address.includes(':') ? 'ipv6' : 'ipv4';
  const longest = family === 'ipv6' ? 128 : 32;
  if (!Number.isInteger(prefixLength) || (prefixLength as number) < 0 || (prefixLength as number) > longest)
    return [];
  return [
    {
      address,
      family,
      prefixLength: prefixLength as number,
      scope: SCOPES.includes(scope as string) ? (scope as InterfaceAddress['scope']) : 'other',
      temporary: false,
      deprecated: false,
      leftOut: null,
    },
  ];
}
