import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { definedVm, namedPaths, undueParts } from './migration-definition.ts';

const UUID = '00cc6257-5d60-4ebb-a478-444f0538f75e';
const domain = (inside: string, devices = '', attributes = '') =>
  `<domain type='kvm' id='3'${attributes}><name>web</name><uuid>${UUID}</uuid>${inside}<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${devices}</devices></domain>`;

const ORDINARY = domain(
  `<description>see /etc/motd</description>
  <metadata><app:x xmlns:app='http://example.org/1'><app:path>/etc/x</app:path></app:x></metadata>
  <resource><partition>/machine</partition></resource>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader><nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram></os>
  <seclabel type='dynamic' model='apparmor' relabel='yes'><label>libvirt-${UUID}</label></seclabel>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label><imagelabel>+64055:+109</imagelabel></seclabel>`,
  `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/images/web.qcow2' index='1'/><backingStore type='file'><format type='raw'/><source file='/mnt/base/x.raw'/></backingStore><target dev='vda' bus='virtio'/></disk>
  <disk type='file' device='cdrom'><source file='/usr/share/virtio-win/virtio-win.iso'/><target dev='sda'/><readonly/></disk>
  <disk type='block' device='disk'><source dev='/dev/vg0/web'/><target dev='vdb'/></disk>
  <disk type='network' device='disk'><source protocol='rbd' name='pool/web'/><target dev='vdc'/></disk>
  <interface type='bridge'><source bridge='br0'/><backend tap='/dev/net/tun' vhost='/dev/vhost-net'/></interface>
  <serial type='pty'><source path='/dev/pts/3'/><log file='/var/log/libvirt/qemu/web.log'/></serial>
  <console type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></console>
  <serial type='file'><source path='/var/log/libvirt/qemu/web.serial'/></serial>
  <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-3-web/agent'/></channel>
  <channel type='unix'><source mode='bind' path='/run/libvirt/qemu/channel/3-web/org.qemu.guest_agent.0'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  <interface type='vhostuser'><source type='unix' path='/run/openvswitch/vhu1' mode='server'/></interface>
  <graphics type='vnc' port='5900'><listen type='address' address='127.0.0.1'/></graphics>
  <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>`,
);

const unix = (path: string) => `<serial type='unix'><source mode='connect' path='${path}'/></serial>`;

describe('undueParts', () => {
  it('lets a VM pass that has what VMs have', () => {
    assert.deepEqual(undueParts(ORDINARY), []);
  });

  const qemu = 'http://libvirt.org/schemas/domain/qemu/1.0';
  const attacks: readonly (readonly [what: string, xml: string])[] = [
    ['a command line for QEMU', domain('', '', ` xmlns:qemu='${qemu}'`)],
    ['the same below another prefix', domain(`<x:commandline xmlns:x='${qemu}'/>`)],
    [
      'the same as a default namespace',
      domain(`<commandline xmlns='${qemu}'><arg value='x'/></commandline>`),
    ],
    [
      'root as its user',
      domain("<seclabel type='static' model='dac' relabel='no'><label>+0:+0</label></seclabel>"),
    ],
    ['no confinement', domain("<seclabel type='none' model='apparmor'/>")],
    [
      'a base label',
      domain("<seclabel type='dynamic' model='selinux' relabel='yes'><baselabel>a</baselabel></seclabel>"),
    ],
    [
      'a daemon of its own, as root',
      domain(
        '',
        "<filesystem type='mount'><driver type='virtiofs'/><binary path='/mnt/x'/><source dir='/mnt'/></filesystem>",
      ),
    ],
    ["the host's card", domain('', "<hostdev mode='subsystem' type='pci'><source/></hostdev>")],
    ["the host's disk", domain('', "<disk type='nvme'><source type='pci'/></disk>")],
    [
      'raw requests',
      domain('', "<disk type='block' device='lun' rawio='yes'><source dev='/dev/sdb'/></disk>"),
    ],
    ['a script, as root', domain('', "<interface type='ethernet'><script path='/mnt/up'/></interface>")],
    ['a log that root writes', domain('', "<serial type='file'><source path='/home/admin/x'/></serial>")],
    [
      'a log that root writes, of a console',
      domain('', "<serial type='pty'><log file='/etc/cron.d/x'/></serial>"),
    ],
    [
      'the same by a way round',
      domain('', "<serial type='file'><source path='/var/log/../../etc/cron.d/x'/></serial>"),
    ],
    ['a file of the system', domain('', "<disk type='file'><source file='/etc/shadow'/></disk>")],
    [
      'the same from where libvirtd stands',
      domain('', "<disk type='file'><source file='etc/shadow'/></disk>"),
    ],
    [
      'the same in other words',
      domain('', "<disk type='file'><source file='//var/../&#x65;tc/shadow'/></disk>"),
    ],
    [
      'the keys of this program',
      domain('', "<disk type='file'><source file='/var/lib/virt-trust/agent/identity/keys.json'/></disk>"),
    ],
    ["a person's keys", domain('', "<disk type='file'><source file='/home/a/.ssh/authorized_keys'/></disk>")],
    [
      'libvirt itself',
      domain('', "<serial type='unix'><source mode='connect' path='/run/libvirt/libvirt-sock'/></serial>"),
    ],
    ['the keyboard', domain('', "<input type='evdev'><source dev='/dev/input/event0'/></input>")],
    ['a terminal', domain('', "<serial type='dev'><source path='/dev/pts/0'/></serial>")],
    [
      'a file that says to be a terminal',
      domain('', "<disk type='file'><source type='pty' file='/etc/shadow'/></disk>"),
    ],
    [
      'another VM’s monitor',
      domain(
        '',
        "<serial type='unix'><source mode='connect' path='/var/lib/libvirt/qemu/domain-2-db/monitor.sock'/></serial>",
      ),
    ],
    [
      'another VM’s saved memory',
      domain('', "<disk type='file'><source file='/var/lib/libvirt/qemu/save/db.save'/></disk>"),
    ],
    [
      'another VM’s agent',
      domain(
        '',
        "<channel type='unix'><source mode='connect' path='/run/libvirt/qemu/channel/2-db/org.qemu.guest_agent.0'/></channel>",
      ),
    ],
    [
      'a switch’s own sockets',
      domain('', "<serial type='unix'><source mode='connect' path='/run/openvswitch/db.sock'/></serial>"),
    ],
    [
      'the firmware of all VMs, to write to',
      domain('', "<disk type='file'><source file='/usr/share/OVMF/OVMF_CODE.fd'/></disk>"),
    ],
    [
      'the same as its own firmware',
      domain("<os><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>"),
    ],
    [
      'the same as its variables',
      domain("<os><nvram template='/usr/share/OVMF/V.fd'>/usr/share/OVMF/V.fd</nvram></os>"),
    ],
    [
      'a module that root’s programs load',
      domain('', "<disk type='file'><source file='/usr/share/perl5/Socket.pm'/></disk>"),
    ],
    ["another service's socket", domain('', unix('/var/lib/docker.sock'))],
    [
      "another service's files",
      domain('', "<disk type='file'><source file='/var/lib/mysql/ibdata1'/></disk>"),
    ],
    ['what the host logs', domain('', "<disk type='file'><source file='/var/log/auth.log'/></disk>")],
    ['its place in that log', domain('', "<serial type='file'><source path='/var/log/auth.log'/></serial>")],
    ['memory that was swapped out', domain('', "<disk type='file'><source file='/swap.img'/></disk>")],
    ['the same without its slash', domain('', "<disk type='file'><source file='swapfile'/></disk>")],
    [
      "the host's card as an interface",
      domain('', "<interface type='hostdev'><source><address type='pci'/></source></interface>"),
    ],
    [
      "the host's card as a whole",
      domain('', "<interface type='direct'><source dev='eth0' mode='passthrough'/></interface>"),
    ],
    ["the host's smartcard", domain('', "<smartcard mode='host'/>")],
    [
      'a bus of the host',
      domain('', "<graphics type='dbus' address='unix:path=/run/dbus/system_bus_socket'/>"),
    ],
    ['memory as a disk', domain('', "<disk type='block'><source dev='/dev/mem'/></disk>")],
    ['a disk as a console', domain('', "<serial type='dev'><source path='/dev/sda'/></serial>")],
    ['a kernel with its text around a child', domain('<os><kernel>/root/x<y/></kernel></os>')],
    ['another program', ORDINARY.replace('/usr/bin/qemu-system-x86_64', '/mnt/shared/evil')],
    ['a program by a way round', ORDINARY.replace('/usr/bin/qemu-system-x86_64', '/usr/../mnt/evil')],
    ['a second program', domain('', '<emulator>/tmp/x</emulator>')],
    ['a program around a child', domain('', '<emulator>/tmp/x<y/></emulator>')],
    ['a program that goes on in a child', domain('', '<emulator>/usr/bin<y>/../../mnt/evil</y></emulator>')],
    ['what a cookie may not have', domain('<title><![CDATA[x]]></title>')],
    ['a path in pieces', domain('<os><kernel><a>/et</a><b>c/shadow</b></kernel></os>')],
    [
      'another encoding, in which its description has elements',
      `<?xml version='1.0' encoding='UTF-7'?>${domain('<description>+ADw-/description+AD4-</description>')}`,
    ],
  ];
  for (const [what, xml] of attacks)
    it(`names ${what}`, () => {
      assert.notDeepEqual(undueParts(xml), []);
    });

  it('reads a reference to a character however long it is written', () => {
    const file = `${'&#'.padEnd(24, '0')}47;etc/shadow`;
    assert.deepEqual(undueParts(domain('', `<disk type='file'><source file='${file}'/></disk>`)), [
      'the path /etc/shadow',
    ]);
  });

  it('reads nothing that libvirt could read otherwise', () => {
    for (const xml of [
      `<!DOCTYPE domain [<!ENTITY x '/etc'>]>${domain('')}`,
      `${domain('')}${domain('')}`,
      domain('', "<disk type='file'><source file='&etc;shadow'/></disk>"),
      domain('', "<disk type='file'><source file='&#xfffff2f;etc/shadow'/></disk>"),
      domain('<title>&#0;</title>'),
      domain('<title>a & b</title>'),
      domain('<title>\u0001</title>'),
    ])
      assert.throws(() => undueParts(xml), { code: 'xml.malformed' });
  });
});

describe('namedPaths', () => {
  it('names disks, wherever they stand', () => {
    const named = namedPaths(ORDINARY);
    for (const path of ['/dev/vg0/web', '/mnt/base/x.raw', '/var/lib/libvirt/qemu/nvram/web_VARS.fd'])
      assert.ok(named.includes(path), path);
  });
});

describe('definedVm', () => {
  it('reads name and UUID', () => {
    assert.deepEqual(definedVm(ORDINARY), { name: 'web', uuid: UUID });
  });

  it('knows none where a definition has no name or UUID, or two of them, or more than text in them', () => {
    for (const xml of [
      '<domain><name>web</name></domain>',
      domain('<name>db</name>'),
      domain(`<uuid>${UUID}</uuid>`),
      ORDINARY.replace('<name>web', '<name>web<x/>'),
      `<network><name>web</name><uuid>${UUID}</uuid></network>`,
    ])
      assert.equal(definedVm(xml), null);
  });
});
