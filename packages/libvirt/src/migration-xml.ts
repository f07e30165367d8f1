import { createHash } from 'node:crypto';
import { elementAt, elementsAt, parseXml, type XmlElement } from './xml-tree.ts';

/** SECURITY: white space of XML's own (XML 1.0 §2.3) alone: other characters are text to libvirt. */
const BETWEEN = />[ \t\r\n]+</g;

/**
 * SHA-256, in hexadecimal, of a VM's XML: the same whether it stands alone (Begin3's answer, which is what
 * `dumpxml --migratable --security-info` gives) or indented within a migration cookie, for white space between elements
 * does not count.
 */
export function migrationXmlDigest(xml: string): string {
  return createHash('sha256').update(xml.trim().replace(BETWEEN, '><'), 'utf8').digest('hex');
}

/**
 * Targets of the disks that libvirt copies with `VIR_MIGRATE_NON_SHARED_*`: those that were named, or else each that has
 * a source and is neither shared nor read-only (qemuMigrationAnyCopyDisk). Throws `xml.malformed`.
 */
export function copiedDisks(xml: string, named: readonly string[]): string[] {
  return elementsAt(parseXml(xml), 'devices', 'disk')
    .filter((disk) => {
      const target = targetOf(disk);
      return named.length > 0 ? named.includes(target) : isOwnDisk(disk);
    })
    .map(targetOf);
}

function isOwnDisk(disk: XmlElement): boolean {
  return (
    elementAt(disk, 'shareable') === undefined &&
    elementAt(disk, 'readonly') === undefined &&
    disk.attributes.get('device') !== 'cdrom' &&
    [...(elementAt(disk, 'source')?.attributes ?? [])].some(
      ([name]) => name !== 'index' && name !== 'startupPolicy',
    )
  );
}

function targetOf(disk: XmlElement): string {
  return elementAt(disk, 'target')?.attributes.get('dev') ?? '';
}
