import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseConfiguration } from './configuration.ts';
import { readLibvirtdSettings } from './libvirtd-settings.ts';
import { readQemuSettings } from './qemu-settings.ts';

const nowhere = (): boolean => false;
const shipped = (name: string) =>
  parseConfiguration(readFileSync(new URL(`../testdata/debian-12/${name}`, import.meta.url)), name);

test("Debian's libvirtd.conf means libvirt's defaults, and virtproxyd does not listen on its own", () => {
  const settings = readLibvirtdSettings(shipped('libvirtd.conf'));
  assert.deepEqual(settings.files, {
    kind: 'default',
    caCertificate: '/etc/pki/CA/cacert.pem',
    crl: '/etc/pki/CA/cacrl.pem',
    identities: [
      { certificate: '/etc/pki/libvirt/servercert.pem', key: '/etc/pki/libvirt/private/serverkey.pem' },
    ],
  });
  const { listenTls, listenTcp, tlsPort, tcpPort, authTls, authTcp, tlsAllowedDnList } = settings;
  assert.deepEqual(
    { listenTls, listenTcp, tlsPort, tcpPort, authTls, authTcp, tlsAllowedDnList },
    {
      listenTls: true,
      listenTcp: false,
      tlsPort: '16514',
      tcpPort: '16509',
      authTls: 'none',
      authTcp: 'sasl',
      tlsAllowedDnList: undefined,
    },
  );
  assert.equal(readLibvirtdSettings(shipped('libvirtd.conf'), 'virtproxyd').listenTls, false);
});

test('an explicit file makes the other two necessary and the default CRL unused', () => {
  const files = (text: string) => readLibvirtdSettings(parseConfiguration(text)).files;
  assert.deepEqual(files('cert_file = "/c"\n'), {
    kind: 'explicit',
    caCertificate: undefined,
    crl: undefined,
    identities: [],
    missing: ['ca_file', 'key_file'],
  });
  assert.deepEqual(files('ca_file="/a"\ncert_file="/c"\nkey_file="/k"\ncrl_file="/r"\n'), {
    kind: 'explicit',
    caCertificate: '/a',
    crl: '/r',
    identities: [{ certificate: '/c', key: '/k' }],
    missing: [],
  });
  assert.deepEqual(files('ca_file="/a"\ncert_files=["/c0","/c1"]\nkey_files=["/k0","/k1"]\n'), {
    kind: 'explicit',
    caCertificate: '/a',
    crl: undefined,
    identities: [
      { certificate: '/c0', key: '/k0' },
      { certificate: '/c1', key: '/k1' },
    ],
    missing: [],
  });
  assert.equal(files('crl_file = "/r"\n').kind, 'default');
});

test('an empty DN list stays apart from none', () => {
  const settings = readLibvirtdSettings(parseConfiguration('tls_allowed_dn_list = []\n'));
  assert.deepEqual(settings.tlsAllowedDnList, []);
});

test('a value of the wrong type is refused with its key and line', () => {
  for (const [text, message] of [
    ['\nlisten_tls = "1"\n', /cannot use listen_tls of configuration: line 2: expecting 0 or 1/],
    ['listen_tls = 2\n', /expecting 0 or 1/],
    ['tls_port = 16514\n', /cannot use tls_port .* expecting a string/],
    ['tls_allowed_dn_list = "CN=a"\n', /expecting a list of strings/],
    ['tls_allowed_dn_list = [ 1 ]\n', /expecting a list of strings/],
  ] as const) {
    assert.throws(() => readLibvirtdSettings(parseConfiguration(text)), {
      code: 'configuration.wrong_type',
      message,
    });
  }
  assert.throws(() => readQemuSettings(parseConfiguration('migration_port_min = -1\n'), nowhere), {
    code: 'configuration.wrong_type',
  });
});

test("Debian's qemu.conf means /etc/pki/qemu for every service, and only VNC does not verify", () => {
  const settings = readQemuSettings(shipped('qemu.conf'), nowhere);
  for (const service of Object.values(settings.services)) {
    assert.equal(service.directory, '/etc/pki/qemu');
    assert.equal(service.origin, 'default');
  }
  const { vnc, spice, chardev, migrate, nbd, backup } = settings.services;
  assert.deepEqual([vnc.verify, chardev.verify, migrate.verify, backup.verify], [false, true, true, true]);
  assert.deepEqual([spice.verify, nbd.verify], [undefined, undefined]);
  assert.deepEqual([vnc.tls, spice.tls, chardev.tls, nbd.tls], [false, false, false, false]);
  assert.deepEqual([migrate.tls, backup.tls], [undefined, undefined]);
  assert.deepEqual([settings.migrationPortMin, settings.migrationPortMax], [49152, 49215]);
  assert.equal(settings.vncListen, '127.0.0.1');
});

test('the directory is the explicit one, else the existing one of the service, else the default', () => {
  const configuration = parseConfiguration(
    'vnc_tls_x509_cert_dir = "/srv/vnc"\ndefault_tls_x509_cert_dir = "/srv/all"\n',
  );
  const { services } = readQemuSettings(configuration, (path) =>
    ['/etc/pki/libvirt-vnc', '/etc/pki/libvirt-migrate'].includes(path),
  );
  assert.deepEqual([services.vnc.origin, services.vnc.directory], ['explicit', '/srv/vnc']);
  assert.deepEqual(
    [services.migrate.origin, services.migrate.directory],
    ['service-default', '/etc/pki/libvirt-migrate'],
  );
  assert.deepEqual([services.nbd.origin, services.nbd.directory], ['default-explicit', '/srv/all']);
});

test("a service's own verification wins over the default's, and that over the built-in one", () => {
  const { services } = readQemuSettings(
    parseConfiguration('default_tls_x509_verify = 0\nvnc_tls_x509_verify = 1\n'),
    nowhere,
  );
  assert.deepEqual([services.vnc.verify, services.migrate.verify], [true, false]);
});

test('a security driver is a string or a list of them', () => {
  const driver = (text: string) => readQemuSettings(parseConfiguration(text), nowhere).securityDriver;
  assert.deepEqual(driver('security_driver = "none"\n'), ['none']);
  assert.deepEqual(driver('security_driver = [ "selinux", "apparmor" ]\n'), ['selinux', 'apparmor']);
  assert.equal(driver(''), undefined);
});
