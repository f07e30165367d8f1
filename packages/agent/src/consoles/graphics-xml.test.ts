import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findGraphics, withoutPassword, withPassword } from './graphics-xml.ts';

// As libvirt 9.0 prints it.
const DOMAIN = `<domain type='qemu' id='1'>
  <name>guest</name>
  <metadata>
    <mine:x xmlns:mine="urn:x"><graphics type='vnc' port='1' listen='192.0.2.66'/></mine:x>
  </metadata>
  <devices>
    <graphics type='vnc' port='5900' autoport='yes' listen='::' passwd='old' passwdValidTo='2026-11-22T10:50:11' connected='keep'>
      <listen type='address' address='::'/>
    </graphics>
    <graphics type='spice' port='5901' tlsPort='5902' autoport='yes' listen='::'>
      <listen type='address' address='::'/>
      <image compression='off'/>
    </graphics>
    <graphics type='egl-headless'/>
  </devices>
</domain>
`;

function found(type: 'vnc' | 'spice', domain = DOMAIN) {
  const element = findGraphics(domain, type);
  assert.ok(element !== undefined);
  return element;
}

test('a display is found among the devices, not in what an owner has written into the metadata', () => {
  const { xml, password, expires } = found('vnc');
  assert.match(xml, /^<graphics type='vnc' port='5900'[\s\S]*<\/graphics>$/);
  assert.deepEqual([password, expires], ['old', true]);
  assert.deepEqual([found('spice').password, found('spice').expires], [null, false]);
  assert.equal(findGraphics(DOMAIN.replace("type='spice'", "type='sdl'"), 'spice'), undefined);
});

test('an element without children is found whole', () => {
  const domain = "<domain>\n  <devices>\n    <graphics type='vnc' port='5900'/>\n  </devices>\n";
  assert.equal(found('vnc', domain).xml, "<graphics type='vnc' port='5900'/>");
});

test('a password replaces what was there, with its end in whole seconds of UTC', () => {
  assert.equal(
    withPassword(found('vnc'), 'Ab_-1234', new Date(Date.UTC(2027, 0, 2, 3, 4, 5, 678))),
    `<graphics type='vnc' passwd='Ab_-1234' passwdValidTo='2027-01-02T03:04:05' port='5900' autoport='yes' listen='::'>
      <listen type='address' address='::'/>
    </graphics>`,
  );
});

test('SECURITY: withdrawn, it is the empty password, which libvirt has expire at once', () => {
  const xml = withoutPassword(found('vnc'));
  assert.match(xml, /^<graphics type='vnc' passwd='' port='5900'/);
  assert.doesNotMatch(xml, /old|passwdValidTo/);
});

test('nothing of a foreign text makes it throw, and what comes out is one element', () => {
  const tokens = [
    '<graphics ',
    "type='vnc'",
    '/>',
    '>',
    '</graphics>',
    '\n  <devices>\n',
    "passwd='",
    "'",
    ' ',
  ];
  const soup = fc.array(fc.oneof(fc.constantFrom(...tokens), fc.string())).map((parts) => parts.join(''));
  fc.assert(
    fc.property(soup, (text) => {
      const element = findGraphics(text, 'vnc');
      if (element === undefined) return;
      assert.ok(text.includes(element.xml) && element.xml.startsWith("<graphics type='vnc'"));
      assert.ok(withoutPassword(element).startsWith("<graphics type='vnc' passwd=''"));
    }),
  );
});
