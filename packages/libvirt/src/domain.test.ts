import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { parseDomain } from './domain.ts';

const UUID = '6f1c2c1e-6f1c-4c1e-8f1c-6f1c2c1e6f1c';
const RUNNING = `<?xml version="1.0"?>
<domain type='qemu' id='1'>
  <name>web&amp;db&#x20;1</name>
  <uuid>${UUID}</uuid>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='hd'/></os>
  <devices>
    <graphics type='vnc' port='5900' autoport='yes' listen='192.0.2.1' passwd='x&lt;y'>
      <listen type='address' address='192.0.2.1'/>
    </graphics>
    <graphics type='spice' port='5901' tlsPort='5902' autoport='no'>
      <listen type='address' address='192.0.2.1'/>
      <listen type='network' network='display' address='2001:db8::1'/>
    </graphics>
  </devices>
</domain>
`;

const domainWith = (devices: string): string =>
  `<domain type='kvm'><name>a</name><uuid>${UUID}</uuid><devices>${devices}</devices></domain>`;

test('a running VM tells its name, identifier, machine and displays, of a password only that there is one', () => {
  const domain = parseDomain(RUNNING);
  assert.deepEqual(domain, {
    name: 'web&db 1',
    uuid: UUID,
    type: 'qemu',
    machine: 'pc-i440fx-7.2',
    graphics: [
      {
        type: 'vnc',
        port: 5900,
        tlsPort: undefined,
        autoport: true,
        listenAddresses: ['192.0.2.1'],
        hasPassword: true,
      },
      {
        type: 'spice',
        port: 5901,
        tlsPort: 5902,
        autoport: false,
        listenAddresses: ['192.0.2.1', '2001:db8::1'],
        hasPassword: false,
      },
    ],
  });
  assert.ok(!JSON.stringify(domain).includes('x<y'));
});

test('a VM that is off has no port yet, and one with a Unix socket listens on no address', () => {
  const off = parseDomain(domainWith("<graphics type='vnc' port='-1' autoport='yes' listen='0.0.0.0'/>"));
  assert.deepEqual(off.graphics[0]?.port, undefined);
  assert.deepEqual(off.graphics[0]?.listenAddresses, ['0.0.0.0']);
  const socket = parseDomain(
    domainWith("<graphics type='vnc'><listen type='socket' socket='/run/x'/></graphics>"),
  );
  assert.deepEqual(socket.graphics[0]?.listenAddresses, []);
  assert.deepEqual(parseDomain(domainWith('')).graphics, []);
});

test('what is no domain XML is refused as malformed', () => {
  for (const [xml, message] of [
    ['', /cannot read domain XML/],
    ['not xml', /cannot read domain XML/],
    ['<domain>', /cannot read domain XML: line 1/],
    ['<network/>', /it has no <domain>/],
    ['<domain><name>a</name></domain>', /its <uuid> is none/],
    [`<domain><uuid>${UUID}</uuid></domain>`, /it has no <name>/],
    [`<!DOCTYPE domain [<!ENTITY a "b">]>${domainWith('')}`, /it holds a DOCTYPE/],
    [domainWith("<graphics type='vnc' port='70000'/>"), /port "70000" is no port/],
    [domainWith(`${'<a>'.repeat(100)}${'</a>'.repeat(100)}`), /cannot read domain XML/],
    [domainWith('').replace('>a<', '>&#0;<'), /&#0; is no character/],
    [' '.repeat(4 * 1024 * 1024 + 1), /more than 4194304/],
  ] as const) {
    assert.throws(() => parseDomain(xml), { code: 'domain.malformed', message });
  }
});

test('names that mean something to the language are refused or nothing special', () => {
  assert.throws(() => parseDomain(domainWith("<__proto__ a='1'/>")), { code: 'domain.malformed' });
  const domain = parseDomain(domainWith("<graphics type='vnc' toString='x'/>"));
  assert.equal(domain.graphics.length, 1);
});

test('any text, also cut and garbled domain XML, is read or refused as malformed', () => {
  const garbled = fc
    .tuple(fc.nat(RUNNING.length), fc.nat(20), fc.string({ unit: fc.constantFrom(...'<>&/=\'";#![]-?ax1 ') }))
    .map(([at, cut, insert]) => RUNNING.slice(0, at) + insert + RUNNING.slice(at + cut));
  fc.assert(
    fc.property(fc.oneof(garbled, fc.string({ unit: 'binary' })), (xml) => {
      try {
        const domain = parseDomain(xml);
        assert.equal(typeof domain.name, 'string');
      } catch (error) {
        assert.ok(isTrustError(error, 'domain.malformed'), String(error));
      }
    }),
    { numRuns: 1000 },
  );
});
