import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { requireDue, requireDueCookie, streamUri } from './distrust.ts';

const UUID = '00cc6257-5d60-4ebb-a478-444f0538f75e';
const XML = `<domain type='kvm'><name>vm</name><uuid>${UUID}</uuid><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>`;
const EVIL = XML.replace('</devices>', "<filesystem><binary path='/mnt/x'/></filesystem></devices>");
const cookieWith = (xml: string) =>
  Buffer.from(`<qemu-migration><name>vm</name><uuid>${UUID}</uuid>${xml}</qemu-migration>\0`);
const UNDUE = { code: 'migration.undue_definition' };
const overNetwork = { vm: 'vm', source: { kind: 'tcp', address: '192.0.2.1', port: 16509 } } as const;
const local = { vm: 'vm', source: { kind: 'local' } } as const;

describe('requireDue', () => {
  const described = { uuid: UUID, xml: XML, cookie: cookieWith(XML) };

  it('takes an ordinary VM from a source without an agent', () => {
    requireDue(overNetwork, described);
  });

  it('takes nothing from there that would command this host, or is another VM', () => {
    for (const lie of [
      { xml: EVIL },
      { xml: XML.replace('<name>vm', '<name>db') },
      { xml: XML.replace(UUID, UUID.replace('00cc', '11cc')) },
      { uuid: UUID.replace('00cc', '11cc') },
      { cookie: cookieWith(EVIL) },
      { cookie: cookieWith(XML.replace('<name>vm', '<name>db')) },
    ])
      assert.throws(() => requireDue(overNetwork, { ...described, ...lie }), UNDUE);
    assert.throws(() => requireDueCookie(overNetwork, { uuid: UUID, cookie: cookieWith(EVIL) }), UNDUE);
    assert.throws(
      () => requireDueCookie(overNetwork, { uuid: UUID, cookie: cookieWith(`<![CDATA[${EVIL}]]>`) }),
      { category: /denied|invalid/ },
    );
  });

  it('leaves this host’s own VM to the destination', () => {
    requireDue(local, { ...described, xml: EVIL, cookie: Buffer.from('x') });
  });
});

describe('streamUri', () => {
  const stream = { address: '192.0.2.2', listenAddress: null, tlsDestination: null };

  it('takes the port that the destination answered', () => {
    assert.equal(streamUri(stream, 'tcp:192.0.2.2:49152'), 'tcp://192.0.2.2:49152');
    assert.equal(streamUri(stream, 'tcp://192.0.2.2:49153'), 'tcp://192.0.2.2:49153');
    assert.equal(
      streamUri({ ...stream, address: '2001:db8::2' }, 'tcp://[2001:0db8::2]:49152'),
      'tcp://[2001:db8::2]:49152',
    );
    assert.equal(streamUri(stream, null), 'tcp://192.0.2.2');
  });

  it('goes to no other place and in no other way, whatever the destination answers', () => {
    for (const answered of [
      'tcp://192.0.2.3:49152',
      'tcp://192.0.2.2@192.0.2.3:49152',
      'tcp://192.0.2.2:0',
      'tcp://192.0.2.2:70000',
      'tcp://192.0.2.2',
      'unix:///run/libvirt/libvirt-sock',
      'rdma://192.0.2.2:49152',
      'exec:sh',
      '',
    ])
      assert.throws(() => streamUri(stream, answered), { code: 'migration.stream_elsewhere' }, answered);
  });
});
