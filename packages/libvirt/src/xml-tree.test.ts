import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { elementAt, elementsAt, parseXml, type XmlElement } from './xml-tree.ts';

describe('XML of libvirt', () => {
  it('is read with attributes, entities, comments and text', () => {
    const root = parseXml(
      `<?xml version='1.0'?><!-- <a/> -->\n<domain type="qemu">\n <name>a &amp; b &#x41;</name><os><type machine='pc'>hvm</type></os>\n<devices><disk a='1'/><disk a='2&apos;'/></devices></domain>\n`,
    );
    assert.equal(root.attributes.get('type'), 'qemu');
    assert.equal(elementAt(root, 'name')?.text, 'a & b A');
    assert.equal(elementAt(root, 'os', 'type')?.attributes.get('machine'), 'pc');
    assert.deepEqual(
      elementsAt(root, 'devices', 'disk').map(({ attributes }) => attributes.get('a')),
      ['1', "2'"],
    );
    assert.equal(elementAt(root, 'devices', 'none'), undefined);
  });

  for (const [what, xml] of [
    ['ends in the middle', '<a><b></b>'],
    ['closes what is not open', '<a></b>'],
    ['has two roots', '<a/><b/>'],
    ['has an attribute twice', "<a b='1' b='2'/>"],
    ['has a document type', '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
    ['is nothing', ''],
    ['is too deep', '<a>'.repeat(65) + '</a>'.repeat(65)],
    ['has text around its root', 'x<a/>'],
    ['has a comment without end', '<a><!-- </a>'],
  ] as const)
    it(`is refused where it ${what}`, () => {
      assert.throws(
        () => parseXml(xml),
        (error) => isTrustError(error, 'xml.malformed'),
      );
    });

  const text = fc.string({ maxLength: 20 }).map((one) => one.replaceAll(/[\s\0]/g, 'x'));
  const name = fc.stringMatching(/^[a-z][a-z0-9_-]{0,8}$/);
  const attributes = fc.dictionary(name, text, { maxKeys: 3 }).map((one) => new Map(Object.entries(one)));
  const { element } = fc.letrec<{ element: XmlElement }>((tie) => ({
    element: fc.oneof(
      { maxDepth: 3 },
      fc.record({ name, attributes, children: fc.constant([]), text }),
      fc.record({ name, attributes, children: fc.array(tie('element'), { maxLength: 3 }), text }),
    ),
  }));

  it('reads back what was written', () => {
    fc.assert(
      fc.property(element, (one) => {
        assert.deepEqual(parseXml(write(one)), normal(one));
      }),
    );
  });

  it('is read or refused, whatever it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...`<>/&;='" !-?ab1`.split('')) }), (xml) => {
        try {
          parseXml(xml);
        } catch (error) {
          assert.ok(isTrustError(error, 'xml.malformed'));
        }
      }),
    );
  });

  it('XML 1.0 §2.7: takes CDATA for text as it stands, in which nothing is markup', () => {
    const root = parseXml('<domain><metadata>a<![CDATA[<b>&amp;]]]]>c</metadata></domain>');
    assert.equal(elementAt(root, 'metadata')?.text, 'a<b>&amp;]]c');
    for (const broken of ['<a><![CDATA[x</a>', '<![CDATA[x]]><a/>', '<a><![CDATA[\u0001]]></a>'])
      assert.throws(() => parseXml(broken), { code: 'xml.malformed' });
  });
});

function write({ name, attributes, children, text }: XmlElement): string {
  const own = [...attributes].map(([key, value]) => ` ${key}="${escaped(value)}"`).join('');
  return `<${name}${own}>${children.length > 0 ? children.map(write).join('\n') : escaped(text)}</${name}>`;
}

function normal(one: XmlElement): XmlElement {
  return { ...one, children: one.children.map(normal), text: one.children.length > 0 ? '' : one.text };
}

function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
