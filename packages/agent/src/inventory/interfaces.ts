import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { lineOf, property } from '@virt-trust/check/host/text.ts';
import type { Interface, InterfaceAddress } from '@virt-trust/contract/model/inventory.ts';
import { formatIpOctets, ipAddressOctets } from '@virt-trust/pki/ip-address.ts';
import { whyAddressLeftOut, whyInterfaceLeftOut } from './left-out.ts';

const MAX_INTERFACES = 512;
const MAX_ADDRESSES = 64;
/** A tap for each of some thousand guests. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;
const TIMEOUT_MS = 10_000;
const INTERFACE_NAME = /^[^\s/:\p{Cc}]{1,15}$/u;
const SCOPES: readonly string[] = ['global', 'link', 'host'];
/** Operational states (RFC 2863 §3.1.14) in which nothing comes through. */
const NOT_UP: readonly unknown[] = ['DOWN', 'LOWERLAYERDOWN', 'NOTPRESENT'];
/** `link` of these is the other end of the cable. */
const CABLES: readonly string[] = ['veth', 'netkit', 'vxcan'];
/** A port of a VRF keeps its own addresses. */
const NO_PORTS: readonly string[] = ['vrf'];

/** The host's interfaces with every address of both families. */
export async function readInterfaces(run: RunHostCommand): Promise<Interface[]> {
  const options = { maxOutputBytes: MAX_OUTPUT_BYTES, timeoutMs: TIMEOUT_MS };
  return parseInterfaces((await run('ip', ['-j', '-d', 'addr', 'show'], options)).stdout);
}

/** Reads the output of `ip -j -d addr show`; what is not an interface is passed over. */
export function parseInterfaces(output: string): Interface[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(output);
  } catch {
    return [];
  }
  const links: unknown[] = Array.isArray(parsed) ? parsed : [];
  const kinds = new Map(links.map((link) => [property(link, 'ifname'), kindOf(link)] as const));
  const found = new Map<string, Interface>();
  for (const link of links) {
    const read = readInterface(link, kinds);
    if (read !== undefined && !found.has(read.name)) found.set(read.name, read);
  }
  return atMost(MAX_INTERFACES, [...found.values()]);
}

function readInterface(link: unknown, kinds: ReadonlyMap<unknown, string>): Interface | undefined {
  const name = interfaceName(property(link, 'ifname'));
  if (name === null) return undefined;
  const flags = property(link, 'flags');
  const has = (flag: string) => Array.isArray(flags) && flags.includes(flag);
  const kind = kindOf(link);
  const mac = property(link, 'address');
  const addresses = property(link, 'addr_info');
  const master = interfaceName(property(link, 'master'));
  const isPort = master !== null && !NO_PORTS.includes(kinds.get(master) ?? '');
  return {
    name,
    up: has('UP') && !has('NO-CARRIER') && !NOT_UP.includes(property(link, 'operstate')),
    kind,
    macAddress: typeof mac === 'string' ? lineOf(mac, 64) : '',
    master: isPort ? master : null,
    parent: CABLES.includes(kind) ? null : interfaceName(property(link, 'link')),
    leftOut: whyInterfaceLeftOut({
      name,
      kind,
      loopback: has('LOOPBACK'),
      master: isPort ? { name: master, kind: kinds.get(master) ?? '' } : null,
    }),
    addresses: atMost(
      MAX_ADDRESSES,
      (Array.isArray(addresses) ? addresses : []).flatMap((address) => readAddress(address)),
    ),
  };
}

function readAddress(value: unknown): InterfaceAddress[] {
  const local = property(value, 'local');
  const octets = typeof local === 'string' ? ipAddressOctets(local) : undefined;
  const address = octets === undefined ? undefined : formatIpOctets(octets);
  const prefixLength = property(value, 'prefixlen');
  if (octets === undefined || address === undefined || !isPrefixLength(prefixLength, octets)) return [];
  const scope = property(value, 'scope');
  const is = (flag: string) => property(value, flag) === true;
  const temporary = is('temporary');
  return [
    {
      address,
      family: octets.length === 16 ? 'ipv6' : 'ipv4',
      prefixLength,
      scope: SCOPES.includes(scope as string) ? (scope as InterfaceAddress['scope']) : 'other',
      temporary,
      deprecated: is('deprecated'),
      leftOut: whyAddressLeftOut({
        octets,
        scope: typeof scope === 'string' ? scope : '',
        temporary,
        tentative: is('tentative'),
        duplicate: is('dadfailed'),
      }),
    },
  ];
}

function isPrefixLength(value: unknown, octets: Uint8Array): value is number {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= octets.length * 8;
}

function kindOf(link: unknown): string {
  const kind = property(property(link, 'linkinfo'), 'info_kind');
  return typeof kind === 'string' ? lineOf(kind, 64) : '';
}

function interfaceName(value: unknown): string | null {
  return typeof value === 'string' && INTERFACE_NAME.test(value) ? value : null;
}

/** Where there are too many, those that matter stay. */
function atMost<T extends { readonly leftOut: string | null }>(limit: number, all: readonly T[]): T[] {
  if (all.length <= limit) return [...all];
  const kept = new Set(
    [
      ...all.filter(({ leftOut }) => leftOut === null),
      ...all.filter(({ leftOut }) => leftOut !== null),
    ].slice(0, limit),
  );
  return all.filter((one) => kept.has(one));
}
