import { TrustError } from '@virt-trust/base/error.ts';
import { XMLParser, XMLValidator } from 'fast-xml-parser';

/** What the domain XML of a VM says that matters to its TLS. */
export interface Domain {
  readonly name: string;
  readonly uuid: string;
  /** The hypervisor's kind, such as `kvm` or `qemu`. */
  readonly type: string;
  /** The machine type, such as `pc-i440fx-7.2`. */
  readonly machine: string | undefined;
  readonly graphics: readonly DomainGraphics[];
}

/** One `<graphics>` device. */
interface DomainGraphics {
  /** `vnc`, `spice` and others. */
  readonly type: string;
  /** None while the VM is off and the port is chosen at its start. */
  readonly port: number | undefined;
  readonly tlsPort: number | undefined;
  readonly autoport: boolean;
  /** Addresses that it listens on; none for a Unix socket alone. */
  readonly listenAddresses: readonly string[];
  readonly hasPassword: boolean;
}

const SIZE_LIMIT = 4 * 1024 * 1024;
const DEPTH_LIMIT = 64;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const PREDEFINED: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '@',
  textNodeName: '#text',
  parseTagValue: false,
  parseAttributeValue: false,
  // SECURITY: no entity of the document's own making is expanded; the predefined ones are decoded here.
  processEntities: false,
  maxNestedTags: DEPTH_LIMIT,
});

/**
 * Reads libvirt's domain XML, of at most 4 MiB; throws `domain.malformed`.
 * @public
 */
export function parseDomain(xml: string): Domain {
  if (xml.length > SIZE_LIMIT) throw malformed(`${xml.length} characters are more than ${SIZE_LIMIT}`);
  // SECURITY: libvirt writes no DOCTYPE; entities and external subsets come in by nothing else.
  if (/<!(DOCTYPE|ENTITY)/i.test(xml)) throw malformed('it holds a DOCTYPE');
  const domain = children(readRoot(xml), 'domain')[0];
  if (domain === undefined) throw malformed('it has no <domain>');
  const uuid = text(children(domain, 'uuid')[0]);
  if (!UUID.test(uuid)) throw malformed('its <uuid> is none');
  const name = text(children(domain, 'name')[0]);
  if (name === '') throw malformed('it has no <name>');
  const type = children(domain, 'os').flatMap((os) => children(os, 'type'))[0];
  const devices = children(domain, 'devices');
  return {
    name,
    uuid,
    type: attribute(domain, 'type') ?? '',
    machine: type === undefined ? undefined : attribute(type, 'machine'),
    graphics: devices.flatMap((element) => children(element, 'graphics')).map(readGraphics),
  };
}

function readRoot(xml: string): unknown {
  try {
    const valid = XMLValidator.validate(xml);
    if (valid !== true) throw malformed(`line ${valid.err.line}: ${valid.err.msg}`);
    return parser.parse(xml);
  } catch (error) {
    if (error instanceof TrustError) throw error;
    throw malformed(error instanceof Error ? error.message : 'it is no XML');
  }
}

function readGraphics(element: unknown): DomainGraphics {
  const listens = children(element, 'listen');
  const addresses = listens.flatMap((listen) => attribute(listen, 'address') ?? []);
  // Older libvirt writes the address on <graphics> alone.
  const own = listens.length === 0 ? attribute(element, 'listen') : undefined;
  return {
    type: attribute(element, 'type') ?? '',
    port: port(element, 'port'),
    tlsPort: port(element, 'tlsPort'),
    autoport: attribute(element, 'autoport') === 'yes',
    listenAddresses: [...new Set(own === undefined ? addresses : [own])],
    hasPassword:
      attribute(element, 'passwd') !== undefined || attribute(element, 'passwdValidTo') !== undefined,
  };
}

function port(element: unknown, name: string): number | undefined {
  const value = attribute(element, name);
  if (value === undefined || value === '-1' || value === '0') return undefined;
  if (!/^\d{1,5}$/.test(value) || Number(value) > 65535) {
    throw malformed(`${name} ${JSON.stringify(value.slice(0, 20))} is no port`);
  }
  return Number(value);
}

/** Elements of that name below one; the parser gives an array where there are several. */
function children(element: unknown, name: string): unknown[] {
  if (typeof element !== 'object' || element === null || !Object.hasOwn(element, name)) return [];
  const found = (element as Record<string, unknown>)[name];
  return Array.isArray(found) ? found : [found];
}

function attribute(element: unknown, name: string): string | undefined {
  const value = children(element, `@${name}`)[0];
  return typeof value === 'string' ? decodeReferences(value) : undefined;
}

function text(element: unknown): string {
  if (typeof element === 'string') return decodeReferences(element);
  const value = children(element, '#text')[0];
  return typeof value === 'string' ? decodeReferences(value) : '';
}

/** XML 1.0 §4.1, §4.6: character references and the five predefined entities. */
function decodeReferences(value: string): string {
  return value.replace(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w+));/g,
    (whole, decimal, hexadecimal, name) => {
      if (name !== undefined) return PREDEFINED[name] ?? whole;
      const point = decimal === undefined ? Number.parseInt(hexadecimal, 16) : Number(decimal);
      if (point === 0 || point > 0x10ffff) throw malformed(`${whole} is no character`);
      return String.fromCodePoint(point);
    },
  );
}

function malformed(reason: string): TrustError {
  return new TrustError('domain.malformed', 'invalid', `cannot read domain XML: ${reason}`);
}
