import type { ConsoleType } from '@virt-trust/contract/model/console.ts';

/** The attributes by which libvirt knows a display's password (formatdomain, "Graphical framebuffers"). */
const PASSWORD_ATTRIBUTES = / (?:passwd|passwdValidTo|connected)='[^']*'/g;

/** A display of a VM in libvirt's own words. */
export interface GraphicsElement {
  readonly xml: string;
  /** Null where it has none. */
  readonly password: string | null;
  readonly expires: boolean;
}

/**
 * The display of a type in the XML of a running VM as `virsh dumpxml --security-info` prints it; undefined where it has
 * none. QEMU has one of each type at most.
 */
export function findGraphics(domain: string, type: ConsoleType): GraphicsElement | undefined {
  // What a VM's owner may write freely (title, description, metadata) comes before its devices.
  const devices = domain.slice(Math.max(0, domain.lastIndexOf('\n  <devices>\n')));
  const start = devices.indexOf(`<graphics type='${type}'`);
  const tagEnd = start < 0 ? -1 : devices.indexOf('>', start);
  if (tagEnd < 0) return undefined;
  const tag = devices.slice(start, tagEnd + 1);
  const closing = '</graphics>';
  const end = tag.endsWith('/>') ? tagEnd + 1 : devices.indexOf(closing, tagEnd) + closing.length;
  if (end < tagEnd + 1) return undefined;
  const password = / passwd='([^']*)'/.exec(tag)?.[1];
  return {
    xml: devices.slice(start, end),
    password: password === undefined ? null : password,
    expires: / passwdValidTo='/.test(tag),
  };
}

/** The element with another password, made of letters, digits, `_` and `-`, that QEMU takes until then alone. */
export function withPassword(element: GraphicsElement, password: string, validTo: Date): string {
  // libvirt reads whole seconds, in UTC.
  return changed(element, ` passwd='${password}' passwdValidTo='${validTo.toISOString().slice(0, 19)}'`);
}

/** The element with the empty password, with which libvirt has QEMU let nobody in. */
export function withoutPassword(element: GraphicsElement): string {
  return changed(element, " passwd=''");
}

function changed({ xml }: GraphicsElement, attributes: string): string {
  const tagEnd = xml.indexOf('>');
  const tag = xml.slice(0, tagEnd).replace(PASSWORD_ATTRIBUTES, '');
  return `${tag.replace(/^<graphics type='[a-z]+'/, (type) => type + attributes)}${xml.slice(tagEnd)}`;
}
