import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import { renewCertificate, revokeCertificate } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { namesInFile, settledNames } from './served-names.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;
const BACKUP_PORT = 10_809;
const NBD_PORT = 10_810;
const IMAGES = '/var/lib/libvirt/images';
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
/** What the disks hold at their beginning. */
const PATTERN = 0x5a;
const PATTERN_BYTES = 65_536;

const OTHER_CLIENTS = `set -e
mkdir /root/none /root/other
cp -L /etc/pki/libvirt-backup/ca-cert.pem /root/none
cp -L /etc/pki/libvirt-migrate/client-*.pem /root/other
cat /etc/pki/libvirt-backup/ca-cert.pem /etc/pki/libvirt-migrate/ca-cert.pem >/root/other/ca-cert.pem`;

/** A VM without a system, with one disk. */
function vmXml(name: string, disk: string): string {
  return `<domain type='qemu'><name>${name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${disk}</devices></domain>`;
}

describe('storage: backups are pulled and disks are read over NBD with TLS, on an interface of its own', {
  skip,
}, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let exporter: ChildProcess | undefined;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-stor-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
  });
  after(async () => {
    exporter?.kill();
    await fleet?.[Symbol.asyncDispose]();
  });

  /** The network that the story takes for storage. */
  const onStorage = (host: Host) => host.on('migration');

  async function makeDisk(path: string): Promise<void> {
    await a.run(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '16M']);
    await a.run(['qemu-io', '-c', `write -P ${PATTERN} 0 ${PATTERN_BYTES}`, path]);
    await a.run(['chown', 'libvirt-qemu:', path]);
  }

  async function createVm(host: Host, name: string, disk: string): Promise<void> {
    await host.writeFile(`/run/${name}.xml`, vmXml(name, disk));
    await host.run([...VIRSH, 'create', `/run/${name}.xml`]);
  }

  /** Begins a backup of host-a's VM, lets `pull` read it and ends it. */
  async function duringBackup<T>(pull: () => Promise<T>): Promise<T> {
    const { address } = onStorage(a);
    const xml = `<domainbackup mode='pull'><server transport='tcp' tls='yes' name='${address}' port='${BACKUP_PORT}'/>
<disks><disk name='vda' type='file' backup='yes' exportname='vda'><scratch file='${IMAGES}/scratch.qcow2'/></disk></disks></domainbackup>`;
    await a.writeFile('/run/backup.xml', xml);
    await a.run([...VIRSH, 'backup-begin', 'stored', '/run/backup.xml']);
    try {
      return await pull();
    } finally {
      // Refused where it is over, as it is where QEMU ended it.
      await a.exec([...VIRSH, 'domjobabort', 'stored']);
      await until('end the backup', PATIENCE, async () =>
        (await a.run([...VIRSH, 'domjobinfo', 'stored'])).includes('None') ? true : undefined,
      );
    }
  }

  /** Reads an export of host-a from host-b as a client with the files of a directory, the server's name verified. */
  async function read(directory: string, port: number, name: string) {
    const object = `tls-creds-x509,id=t,endpoint=client,dir=${directory},verify-peer=on`;
    const options = `driver=nbd,host=${onStorage(a).address},port=${port},export=${name},tls-creds=t`;
    return await b.exec([
      ...['qemu-io', '-r', '--object', object, '--image-opts', options],
      ...['-c', `read -P ${PATTERN} 0 ${PATTERN_BYTES}`],
    ]);
  }

  async function renew(host: Host, service: Service): Promise<string> {
    const old = await until(`see ${service} of ${host.name} at rest`, PATIENCE, () =>
      settledNames(fleet, host.name, service),
    );
    const order = { params: { serial: old.serialNumber } };
    await fleet.finished(await fleet.client.call(renewCertificate, order));
    return old.serialNumber;
  }

  const exportDisk = async () => {
    const object = 'tls-creds-x509,id=t,endpoint=server,dir=/etc/pki/libvirt-nbd,verify-peer=on';
    const { address } = onStorage(a);
    exporter = await a.start([
      ...['runuser', '-u', 'libvirt-qemu', '--', 'qemu-nbd', '--object', object, '--tls-creds', 't'],
      ...['--persistent', '--shared', '0', '-f', 'qcow2', '-x', 'disk', '-b', address, '-p', `${NBD_PORT}`],
      `${IMAGES}/exported.qcow2`,
    ]);
    await until('export a disk', PATIENCE, async () =>
      (await a.run(['ss', '-ltn'])).includes(`${address}:${NBD_PORT}`) ? true : undefined,
    );
  };

  it('1. certificates of NBD and backups have the names of the storage interface and no others', async () => {
    const order = { params: { setting: 'role.storage' }, query: { cluster: 'default' } };
    await fleet.client.call(putSetting, { ...order, body: { value: ['eth1'] } });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    for (const host of [a, b]) {
      const { address, address6 } = onStorage(host);
      const own = [address, address6].sort();
      for (const directory of ['/etc/pki/libvirt-nbd', '/etc/pki/libvirt-backup'])
        for (const end of ['server', 'client'])
          assert.deepEqual((await namesInFile(host, `${directory}/${end}-cert.pem`)).sort(), own, directory);
    }
    const keys = await a.run([
      'sh',
      '-c',
      'sha256sum /etc/pki/libvirt-*/server-key.pem | cut -c 1-64 | sort -u',
    ]);
    assert.equal(keys.trim().split('\n').length, 5, 'a key of its own for each');
  });

  it('2. a backup is pulled by the other host under the storage address, and by no other client', async () => {
    await makeDisk(`${IMAGES}/stored.qcow2`);
    await createVm(
      a,
      'stored',
      `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${IMAGES}/stored.qcow2'/><target dev='vda' bus='virtio'/></disk>`,
    );
    // One who holds the CA alone, and one whose certificate is of another authority but who trusts ours.
    await b.run(['sh', '-c', OTHER_CLIENTS]);
    await duringBackup(async () => {
      const pulled = await read('/etc/pki/libvirt-backup', BACKUP_PORT, 'vda');
      assert.equal(pulled.code, 0, pulled.stderr);
      assert.match(pulled.stdout, new RegExp(`read ${PATTERN_BYTES}/${PATTERN_BYTES} bytes`));
      assert.doesNotMatch(pulled.stdout, /Pattern verification failed/);
      for (const directory of ['/root/none', '/root/other']) {
        const refused = await read(directory, BACKUP_PORT, 'vda');
        assert.notEqual(refused.code, 0, directory);
        assert.match(refused.stderr, /TLS|certificate/i);
      }
    });
  });

  it('3. the next backup refuses who was revoked since, and takes the renewed, with the VM running on', async () => {
    const before = await qemuProcesses(a);
    await b.run(['cp', '-rL', '/etc/pki/libvirt-backup', '/root/stolen']);
    const stolen = await renew(b, 'backup');
    await renew(a, 'backup');
    const body = { reason: 'keyCompromise' as const };
    await fleet.finished(await fleet.client.call(revokeCertificate, { params: { serial: stolen }, body }));
    await until('bring the CRL', PATIENCE, async () => {
      const crl = (await fleet.show('host-a')).observed?.crls.find(({ purpose }) => purpose === 'storage');
      return (crl?.entries ?? 0) > 0 ? true : undefined;
    });
    await duringBackup(async () => {
      const refused = await read('/root/stolen', BACKUP_PORT, 'vda');
      assert.notEqual(refused.code, 0);
      const pulled = await read('/etc/pki/libvirt-backup', BACKUP_PORT, 'vda');
      assert.equal(pulled.code, 0, pulled.stderr);
    });
    assert.deepEqual(await qemuProcesses(a), before);
  });

  it('4. a VM has its disk over NBD from the other host, and is told of once its certificate is another', async () => {
    await makeDisk(`${IMAGES}/exported.qcow2`);
    await exportDisk();
    await createVm(
      b,
      'remote',
      `<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='disk' tls='yes'><host name='${onStorage(a).address}' port='${NBD_PORT}'/></source><target dev='vda' bus='virtio'/></disk>`,
    );
    assert.match(await b.run([...VIRSH, 'domblkinfo', 'remote', 'vda']), /Capacity:\s+16777216/);
    assert.notEqual((await read('/root/none', NBD_PORT, 'disk')).code, 0);
    const pending = async () =>
      (await fleet.show('host-b')).observed?.pending.filter(({ what }) => what === 'nbd of remote') ?? [];
    assert.deepEqual(await pending(), []);
    const running = await qemuProcesses(b);
    await renew(b, 'nbd');
    const [one] = await until('hear of the disk', PATIENCE, async () => {
      const said = await pending();
      return said.length > 0 ? said : undefined;
    });
    assert.match(one?.action ?? '', /plug the device anew/);
    assert.deepEqual(await qemuProcesses(b), running);
    await b.run([...VIRSH, 'destroy', 'remote']);
    // With what is there now it starts again.
    await b.run([...VIRSH, 'create', '/run/remote.xml']);
    await b.run([...VIRSH, 'destroy', 'remote']);
  });

  it('5. a removal gives the host back without any of it', async () => {
    await a.run([...VIRSH, 'destroy', 'stored']);
    await fleet.remove('host-a');
    for (const directory of ['/etc/pki/libvirt-nbd', '/etc/pki/libvirt-backup'])
      assert.equal((await a.exec(['test', '-e', directory])).code, 1, directory);
    assert.equal((await a.exec(['grep', '-qE', '^(nbd|backup)_tls', '/etc/libvirt/qemu.conf'])).code, 1);
  });
});
