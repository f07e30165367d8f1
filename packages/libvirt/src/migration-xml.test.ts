import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { copiedDisks, migrationXmlDigest } from './migration-xml.ts';

const XML = `<domain type='qemu'>
  <name>vm</name>
  <devices>
    <disk type='file' device='disk'><source file='/a' index='1'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><source file='/s'/><target dev='vdb'/><shareable/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <disk type='file' device='floppy'><source file='/f'/><target dev='fda'/><readonly/></disk>
    <disk type='block' device='disk'><source dev='/dev/x'/><target dev='vdc'/></disk>
    <disk type='file' device='disk'><source startupPolicy='optional'/><target dev='vdd'/></disk>
  </devices>
</domain>
`;

describe('migrationXmlDigest', () => {
  it('is the same where the XML is indented within another, and ends without a new line', () => {
    const indented = XML.split('\n')
      .map((line) => `    ${line}`)
      .join('\n');
    assert.equal(migrationXmlDigest(indented), migrationXmlDigest(XML));
    assert.equal(migrationXmlDigest(XML.trimEnd()), migrationXmlDigest(XML));
  });

  it('is another wherever a character that is no white space is another', () => {
    const digest = migrationXmlDigest(XML);
    fc.assert(
      fc.property(fc.nat(XML.length - 1), fc.stringMatching(/^[!-~]$/), (at, character) => {
        const changed = XML.slice(0, at) + character + XML.slice(at + 1);
        assert.equal(migrationXmlDigest(changed) === digest, changed === XML);
      }),
    );
  });

  it('is another where text or an attribute has other white space', () => {
    assert.notEqual(migrationXmlDigest('<a b="c d"/>'), migrationXmlDigest('<a b="c  d"/>'));
    assert.notEqual(migrationXmlDigest('<a>b</a>'), migrationXmlDigest('<a> b</a>'));
    assert.notEqual(migrationXmlDigest('<a><b/></a>'), migrationXmlDigest('<a>\u00a0<b/></a>'));
  });
});

describe('copiedDisks', () => {
  it('has disks with a source that are neither shared nor read-only, as libvirt copies them', () => {
    assert.deepEqual(copiedDisks(XML, []), ['vda', 'vdc']);
  });

  it('has those that were named, whatever they are', () => {
    assert.deepEqual(copiedDisks(XML, ['vdb', 'vdz']), ['vdb']);
  });
});
