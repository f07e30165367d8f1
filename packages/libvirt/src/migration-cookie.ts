import { TrustError } from '@virt-trust/base/error.ts';
import { elementsAt, parseXml } from './xml-tree.ts';

/** What a migration cookie (qemu_migration_cookie.c) that a source sends says of the VM. */
export interface MigrationCookie {
  readonly name: string;
  readonly uuid: string;
  /** The persistent definition that the destination is to keep, as it stands in the cookie. */
  readonly persistentXml: string | null;
}

const NAME = '[A-Za-z_][\\w.:-]{0,255}';
const ATTRIBUTES = `(?:\\s+${NAME}\\s*=\\s*(?:"[^"<]*"|'[^'<]*'))*`;
/** A tag or a comment; what else begins with `<` (CDATA, declarations, instructions) no cookie has. */
const MARKUP = new RegExp(`<!--(?:(?!--)[^])*-->|<(/?)(${NAME})${ATTRIBUTES}\\s*(/?)>`, 'y');

/** Children of a cookie's root; each at most once but `feature`. */
const CHILDREN: ReadonlySet<string> = new Set([
  'name',
  'uuid',
  'hostname',
  'hostuuid',
  'feature',
  'graphics',
  'lockstate',
  'domain',
  'network',
  'nbd',
  'statistics',
  'cpu',
  'allowReboot',
  'capabilities',
  'blockDirtyBitmaps',
]);

/**
 * Reads a cookie, which is XML and a NUL; null where it is empty. Throws `migration.cookie`, `xml.malformed`.
 * SECURITY: refuses every construct that another parser could read otherwise, since libvirt reads these bytes again.
 */
export function readMigrationCookie(cookie: Uint8Array): MigrationCookie | null {
  if (cookie.length === 0) return null;
  if (cookie.indexOf(0) !== cookie.length - 1) throw refusal('it is not one text that ends in a NUL');
  const xml = decodeUtf8(cookie.subarray(0, -1));
  const root = parseXml(xml);
  if (root.name !== 'qemu-migration') throw refusal(`its root is ${root.name}`);
  const names = root.children.map(({ name }) => name);
  for (const [at, name] of names.entries()) {
    if (!CHILDREN.has(name)) throw refusal(`it has an element ${name}`);
    if (name !== 'feature' && names.indexOf(name) !== at) throw refusal(`it has ${name} twice`);
  }
  const textOf = (name: string) => {
    const [element] = elementsAt(root, name);
    if (element === undefined || element.children.length > 0) throw refusal(`it has no ${name}`);
    return element.text;
  };
  return { name: textOf('name'), uuid: textOf('uuid'), persistentXml: rawChild(xml, 'domain') };
}

/** The text of the root's child of that name, from its first character to its last; null where there is none. */
function rawChild(xml: string, name: string): string | null {
  let depth = 0;
  let from = -1;
  let found: string | null = null;
  for (let at = xml.indexOf('<'); at >= 0; at = xml.indexOf('<', at)) {
    MARKUP.lastIndex = at;
    const [whole, closing, tag, empty] = MARKUP.exec(xml) ?? [];
    if (whole === undefined) throw refusal(`what begins at character ${at} is neither tag nor comment`);
    const end = at + whole.length;
    if (tag !== undefined) {
      if (closing === '/') depth--;
      else if (depth === 1 && tag === name) from = at;
      if (closing !== '/' && empty !== '/') depth++;
      if (depth === 1 && from >= 0) {
        found = xml.slice(from, end);
        from = -1;
      }
    }
    at = end;
  }
  return found;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw refusal('it is not UTF-8');
  }
}

function refusal(reason: string): TrustError {
  return new TrustError('migration.cookie', 'denied', `cannot take the migration cookie: ${reason}`);
}
