import Type from 'typebox';

/** A name that an operator types: letters, digits, dot, dash and underscore; no shell or control characters. */
const NAME_PATTERN = '^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$';

export const Name = Type.String({
  pattern: NAME_PATTERN,
  maxLength: 253,
  description:
    'a name of letters, digits, dots, dashes and underscores that begins and ends with a letter or digit',
});
export const Uuid = Type.String({
  description: 'a UUID in lower case',
  pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$',
});
export const Pin = Type.String({
  pattern: '^sha256:[A-Za-z0-9_-]{43}$',
  maxLength: 50,
});
/** Milliseconds since 1970, within what base/instant.ts takes. */
export const Time = Type.Integer({ minimum: -62_135_596_800_000, maximum: 253_402_300_799_000 });
export const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const Port = Type.Integer({ minimum: 1, maximum: 65535 });
/** Hexadecimal, at most 20 octets (RFC 5280 §4.1.2.2). */
export const SerialHex = Type.String({
  description: 'a serial number of 2 to 40 hexadecimal digits in lower case',
  pattern: '^[0-9a-f]{2,40}$',
});
export const Sha256Hex = Type.String({ pattern: '^[0-9a-f]{64}$' });
/** One or more PEM blocks; libvirt reads at most 64 KiB a file. */
export const Pem = Type.String({
  maxLength: 65_536,
  pattern: '^-----BEGIN ',
});
/** Words for people, bounded and without control characters but newline and tab. */
export const Text = Type.String({
  maxLength: 8192,
  pattern: '^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f]*$',
});
export const Line = Type.String({
  description: 'one line without control characters',
  maxLength: 1024,
  pattern: '^[^\\u0000-\\u001f\\u007f]*$',
});
export const Path = Type.String({
  description: 'an absolute path without control characters',
  maxLength: 4096,
  pattern: '^/[^\\u0000-\\u001f\\u007f]*$',
});
/** Textual IPv4 or IPv6 address without a zone. */
export const Address = Type.String({
  maxLength: 45,
  pattern: '^[0-9A-Fa-f:.]{2,45}$',
  description: 'an IPv4 or IPv6 address without a zone',
});
/** A DNS name as it goes into a dNSName: LDH labels, lower case. */
export const DnsName = Type.String({
  description: 'a DNS name in lower case',
  maxLength: 253,
  pattern: '^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$',
});
export const InterfaceName = Type.String({
  pattern: '^[^\\s/:\\u0000-\\u001f\\u007f]{1,15}$',
  maxLength: 15,
  description: 'the name of a network interface',
});
/** A VM's name as libvirt allows it, without control characters or slashes, not beginning with a dash. */
export const VM_NAME = '^[^\\u0000-\\u001f\\u007f/-][^\\u0000-\\u001f\\u007f/]{0,254}$';
export const VmName = Type.String({
  pattern: VM_NAME,
  maxLength: 255,
  description: 'the name of a VM: no control characters or slashes, and no dash at the beginning',
});
