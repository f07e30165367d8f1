import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCapabilities } from '@virt-trust/check/host/capabilities.ts';
import { parseProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { parseQemuCommandLine, parseStartTicks } from '@virt-trust/check/host/qemu-process.ts';
import { parseSockets } from '@virt-trust/check/host/sockets.ts';
import { Interface, Inventory, RunningVm } from '@virt-trust/contract/model/inventory.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { parseInterfaces } from './interfaces.ts';
import { parseAnswers, parseVersions } from './libvirt.ts';
import { parseOsRelease } from './os-release.ts';
import { connectionsOf } from './sockets.ts';

const PORTS = { tls: 16514, tcp: 16509 };
const UUID = 'c7a5fdbd-edaf-9455-926a-d65c16db1809';

test('os-release is read with its quotes', () => {
  assert.deepEqual(
    parseOsRelease(
      '# c\nPRETTY_NAME="Debian GNU/Linux 12 \\"bookworm\\""\nID=debian\nVERSION_ID=\'12\'\nNO\n',
    ),
    { id: 'debian', version: '12', prettyName: 'Debian GNU/Linux 12 "bookworm"' },
  );
  assert.deepEqual(parseOsRelease(''), { id: '', version: '', prettyName: '' });
});

test('interfaces have all addresses of both families, their kind and whether they are up', () => {
  const output = JSON.stringify([
    {
      ifname: 'br0',
      flags: ['BROADCAST', 'UP'],
      operstate: 'UP',
      address: '52:54:00:00:00:01',
      linkinfo: { info_kind: 'bridge' },
      addr_info: [
        { family: 'inet', local: '192.0.2.1', prefixlen: 24, scope: 'global' },
        { family: 'inet6', local: '2001:db8::1', prefixlen: 64, scope: 'global' },
        { family: 'inet6', local: 'fe80::1', prefixlen: 64, scope: 'link' },
        { family: 'inet', local: '192.0.2.1.5', prefixlen: 24, scope: 'global' },
        { family: 'inet', local: '192.0.2.2', prefixlen: 64, scope: 'global' },
      ],
    },
    { ifname: 'eth0', flags: ['UP'], operstate: 'DOWN' },
    { ifname: 'a name of more than fifteen characters' },
  ]);
  const [bridge, card, ...others] = parseInterfaces(output);
  assert.equal(bridge?.kind, 'bridge');
  assert.deepEqual(
    bridge?.addresses.map(({ address, family, scope }) => `${address} ${family} ${scope}`),
    ['192.0.2.1 ipv4 global', '2001:db8::1 ipv6 global', 'fe80::1 ipv6 link'],
  );
  assert.deepEqual(card, {
    name: 'eth0',
    up: false,
    kind: '',
    macAddress: '',
    master: null,
    parent: null,
    leftOut: null,
    addresses: [],
  });
  assert.deepEqual(others, []);
});

test('connections are told by direction and transport, each once, in every form ss writes addresses in', () => {
  const output = [
    '0      0          192.0.2.1:16514        192.0.2.9:40000',
    'ESTAB 0      0    192.0.2.1:16514        192.0.2.9:40001',
    '0      0   [::ffff:192.0.2.1]:16509   [::ffff:192.0.2.8]:40002',
    '0      0       [2001:db8::1]:50000     [2001:db8::2]:16514',
    '0      0     [fe80::1]%eth0:16514      [fe80::2]%eth0:40003',
    '0      0          192.0.2.1:22           192.0.2.9:40004',
    'strange',
  ].join('\n');
  assert.deepEqual(connectionsOf(parseSockets(output), PORTS), [
    { direction: 'client', address: '192.0.2.9', transport: 'tls' },
    { direction: 'client', address: '192.0.2.8', transport: 'tcp' },
    { direction: 'peer', address: '2001:db8::2', transport: 'tls' },
    { direction: 'client', address: 'fe80::2', transport: 'tls' },
  ]);
  const listening = parseSockets('LISTEN 0 128 0.0.0.0:16514 0.0.0.0:*\nLISTEN 0 128 *:16509 *:*\n');
  assert.deepEqual(
    listening.map(({ local }) => local.port),
    [16514, 16509],
  );
});

test('capabilities tell the host and the user of QEMU by the dac base label', () => {
  const xml = `<capabilities><host><uuid>${UUID}</uuid>
    <secmodel><model>apparmor</model><doi>0</doi></secmodel>
    <secmodel><model>dac</model><doi>0</doi>
      <baselabel type='kvm'>+64055:+106</baselabel><baselabel type='qemu'>+64055:+106</baselabel>
    </secmodel></host><guest/></capabilities>`;
  assert.deepEqual(parseCapabilities(xml), { hostUuid: UUID, qemu: { uid: 64055, gid: 106 } });
  assert.deepEqual(parseCapabilities('<capabilities/>'), { hostUuid: undefined, qemu: undefined });
});

test('versions are read from virsh and from programs', () => {
  const output =
    'Compiled against library: libvirt 9.0.0\nRunning hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n';
  assert.deepEqual(parseVersions(output), { version: '9.0.0', qemuVersion: '7.2.22' });
  assert.equal(parseProgramVersion('libvirtd (libvirt) 9.0.0'), '9.0.0');
  assert.equal(parseProgramVersion('QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)'), '7.2.22');
  assert.equal(parseProgramVersion('nothing'), undefined);
});

test('all that the daemon says at once is told apart, and what it leaves out is no answer', () => {
  const answers = [
    'Running hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n',
    `<capabilities>\n<host><uuid>${UUID}</uuid></host>\n</capabilities>\n`,
    'web\na / b\n',
    `${UUID}\n`,
  ];
  assert.deepEqual(parseAnswers(answers.join('\n/\n')), {
    version: '9.0.0',
    qemuVersion: '7.2.22',
    capabilities: { hostUuid: UUID, qemu: undefined },
    definedVms: 2,
    pausedVms: new Set([UUID]),
  });
  const none = parseAnswers([...answers.slice(0, 2), '\n', '\n'].join('\n/\n'));
  assert.deepEqual([none.definedVms, none.pausedVms.size], [0, 0]);
  for (const cut of [[], answers.slice(0, 3), [answers[0], '', ...answers.slice(2)]])
    assert.throws(() => parseAnswers(cut.join('\n/\n')), { code: 'inventory.no_answer' });
});

test("a QEMU's command line tells its VM, its VNC and the directory it started with", () => {
  const words = (...vnc: string[]) =>
    ['/usr/bin/qemu-system-x86_64', '-name', 'guest=a,,b,debug-threads=on', '-uuid', UUID, ...vnc, ''].join(
      '\0',
    );
  const json =
    '{"qom-type":"tls-creds-x509","id":"vnc-tls-creds0","dir":"/etc/pki/libvirt-vnc","endpoint":"server"}';
  assert.deepEqual(
    parseQemuCommandLine(
      words(
        '-object',
        json,
        '-vnc',
        '[::]:5,tls-creds=vnc-tls-creds0,audiodev=audio1',
        '-vnc',
        'unix:/run/x:1',
      ),
    ),
    {
      uuid: UUID,
      name: 'a,b',
      vnc: [
        {
          listen: '::',
          port: 5905,
          tlsDirectory: '/etc/pki/libvirt-vnc',
          clients: { password: false, certificate: true },
        },
      ],
      spice: [],
      verifiesVncClients: true,
      devices: [],
    },
  );
  const lenient = [
    json.replace('}', ',"verify-peer":false}'),
    'tls-creds-x509,id=vnc-tls-creds0,dir=/d,verify-peer=off',
  ];
  for (const object of [...lenient, 'tls-creds-x509,id=another,dir=/d']) {
    const line = words('-object', object, '-vnc', '[::]:5,tls-creds=vnc-tls-creds0');
    assert.equal(parseQemuCommandLine(line)?.verifiesVncClients, false, object);
  }
  const old = 'tls-creds-x509,id=c,dir=/etc/pki/a,,b,endpoint=server';
  assert.deepEqual(parseQemuCommandLine(words('-object', old, '-vnc', '0.0.0.0:0,tls-creds=c'))?.vnc, [
    {
      listen: '0.0.0.0',
      port: 5900,
      tlsDirectory: '/etc/pki/a,b',
      clients: { password: false, certificate: true },
    },
  ]);
  assert.deepEqual(parseQemuCommandLine(words('-vnc', '127.0.0.1:1'))?.vnc, [
    { listen: '127.0.0.1', port: 5901, tlsDirectory: null, clients: { password: false, certificate: false } },
  ]);
  for (const option of ['password=on', 'password-secret=sec0'])
    assert.equal(parseQemuCommandLine(words('-vnc', `[::]:1,${option}`))?.vnc[0]?.clients.password, true);
  assert.equal(parseQemuCommandLine(`vi\0-name\0guest=x\0-uuid\0${UUID}\0`), undefined);
  assert.equal(parseQemuCommandLine(''), undefined);
});

test("a QEMU's command line tells its SPICE ports and the directory that it loaded", () => {
  const spiceOf = (value: string) =>
    parseQemuCommandLine(
      ['qemu-system-x86_64', '-name', 'guest=a', '-uuid', UUID, '-spice', value, ''].join('\0'),
    )?.spice;
  assert.deepEqual(
    spiceOf('port=5900,tls-port=5901,addr=127.0.0.1,x509-dir=/etc/a,,b,disable-ticketing=on'),
    [
      {
        listen: '127.0.0.1',
        port: 5900,
        tlsPort: 5901,
        tlsDirectory: '/etc/a,b',
        clients: { password: false, certificate: false },
      },
    ],
  );
  assert.deepEqual(spiceOf('port=5900,addr=::1,x509-dir=/etc/pki/libvirt-spice'), [
    {
      listen: '::1',
      port: 5900,
      tlsPort: null,
      tlsDirectory: null,
      clients: { password: true, certificate: false },
    },
  ]);
  for (const none of ['unix=on,addr=/run/spice.sock', 'port=0,tls-port=70000', 'tls-port=-1', ''])
    assert.deepEqual(spiceOf(none), []);
});

test('proc(5): the start time is counted after the name, which may hold anything', () => {
  const rest = Array.from({ length: 30 }, (_, index) => `${index + 3}`).join(' ');
  assert.equal(parseStartTicks(`77 (a) 1 2 (b)) ${rest}`), 22);
  assert.equal(parseStartTicks('77 (x) S 1'), undefined);
});

test('no output of a tool makes a parser throw or leave the form of the contract', () => {
  const line = validatorOf(Inventory.properties.distribution);
  const tokens = [
    '0',
    '[',
    ']',
    ':',
    '%',
    '*',
    ' ',
    '\n',
    '\t',
    '::1',
    '16514',
    '127.0.0.1',
    'eth0',
    '\u0000',
    'é',
  ];
  const soup = fc.array(fc.oneof(fc.constantFrom(...tokens), fc.string())).map((parts) => parts.join(''));
  fc.assert(
    fc.property(soup, (text) => {
      line(parseOsRelease(`ID=${text}\n${text}`), 'distribution');
      validatorOf(Inventory.properties.connections)(connectionsOf(parseSockets(text), PORTS), 'connections');
      parseCapabilities(`<host>${text}</host>`);
      parseVersions(text);
      parseProgramVersion(text);
      parseStartTicks(text);
    }),
  );
  const part = fc.oneof(
    fc.constantFrom('-vnc', '-object', '-name', '-uuid', 'guest=', ':5', 'tls-creds=c'),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(fc.array(part).map((parts) => parts.join(','))), (words) => {
      const line = ['qemu-system-x86_64', '-uuid', UUID, '-name', 'guest=x', ...words].join('\0');
      const vm = parseQemuCommandLine(line);
      if (vm === undefined) return;
      const { verifiesVncClients: _, devices: __, ...told } = vm;
      const vnc = told.vnc.map(({ clients: ___, ...display }) => display);
      const spice = told.spice.map(({ clients: ___, ...display }) => display);
      validatorOf(RunningVm)({ ...told, vnc, spice, state: '', pid: 1, startTicks: 1 }, 'VM');
    }),
  );
  const link = fc.record(
    {
      ifname: fc.oneof(fc.constantFrom('eth0', 'vnet0', 'virbr0'), fc.jsonValue()),
      flags: fc.jsonValue(),
      address: fc.jsonValue(),
      operstate: fc.oneof(fc.constantFrom('UP', 'DOWN', 'UNKNOWN'), fc.jsonValue()),
      master: fc.oneof(fc.constant('eth0'), fc.jsonValue()),
      link: fc.oneof(fc.constant('eth0'), fc.jsonValue()),
      linkinfo: fc.oneof(
        fc.record({ info_kind: fc.oneof(fc.constantFrom('tun', 'vrf', 'veth'), fc.jsonValue()) }),
        fc.jsonValue(),
      ),
      addr_info: fc.oneof(
        fc.array(
          fc.record({
            local: fc.oneof(fc.ipV4(), fc.ipV6(), fc.jsonValue()),
            prefixlen: fc.oneof(fc.constant(24), fc.jsonValue()),
            scope: fc.oneof(fc.constantFrom('global', 'link', 'host', 'site'), fc.jsonValue()),
            temporary: fc.jsonValue(),
            tentative: fc.jsonValue(),
          }),
        ),
        fc.jsonValue(),
      ),
    },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(fc.array(link), fc.jsonValue()), (links) => {
      const interfaces = parseInterfaces(JSON.stringify(links));
      for (const each of interfaces) validatorOf(Interface)(each, 'interface');
      assert.equal(new Set(interfaces.map(({ name }) => name)).size, interfaces.length);
    }),
  );
  fc.assert(fc.property(fc.string(), (text) => parseInterfaces(text).length === 0 || text.startsWith('[')));
});
