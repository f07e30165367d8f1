import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { testDesiredSettings } from '@virt-trust/contract/model/fixtures.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import fc from 'fast-check';
import { applyEdits, unmetEdits } from './configuration-edits.ts';
import { qemuEdits, rpcEdits } from './daemon-settings.ts';

const credential = {
  endpoints: [],
  identity: 'ours',
  subject: { commonName: 'a', organization: 'o' },
  names: { dns: [], addresses: [] },
  keyAlgorithm: 'ecdsa-p256',
  revision: 1,
  bundle: '-----BEGIN A',
  keepFoundTrust: false,
} as const;

function desired(settings: Partial<DesiredState['settings']> = {}): DesiredState {
  return {
    epoch: 1,
    number: 1,
    credentials: SERVICES.map((service) => ({
      ...credential,
      service,
      endpoints: [],
      names: { dns: [], addresses: [] },
    })),
    settings: testDesiredSettings({ migrateTls: 'force', ...settings }),
  };
}

const HOST = { ipv6: true };
const sockets = { daemon: 'libvirtd', listening: 'systemd-sockets' } as const;
const own = { daemon: 'libvirtd', listening: 'own-sockets' } as const;

function edited(text: string, want: DesiredState, context: typeof sockets | typeof own = sockets): string {
  const found = parseConfiguration(text);
  const now = parseConfiguration(text);
  applyEdits(now, found, rpcEdits(want, found, context), []);
  return now.toString();
}

describe('rpcEdits', () => {
  it('lets libvirtd read the default paths, which a reload reads whatever is configured', () => {
    const text = edited('ca_file = "/a"\ncert_file = "/b"\nkey_file = "/c"\n', desired());
    assert.match(text, /^#ca_file = "\/a"\n#cert_file = "\/b"\n#key_file = "\/c"\n/);
  });

  it('keeps the SASL of others', () => {
    assert.match(edited('auth_tls = "sasl"\n', desired()), /^auth_tls = "sasl"\n/);
  });

  it('adds our clients to a list of DNs, and makes none where there is none', () => {
    const clientDns = ['O=o,CN=c*'];
    assert.match(
      edited('tls_allowed_dn_list = ["CN=x"]\n', desired({ clientDns })),
      /tls_allowed_dn_list = \[ "CN=x", "O=o,CN=c\*" \]/,
    );
    assert.doesNotMatch(edited('', desired({ clientDns })), /tls_allowed_dn_list/);
  });

  it('switches the listeners of a daemon that opens its own sockets, plain TCP only where it was on', () => {
    assert.match(
      edited('listen_tls = 0\nlisten_tcp = 1\n', desired(), own),
      /listen_tls = 1\nlisten_tcp = 0\n/,
    );
    assert.doesNotMatch(edited('', desired(), own), /listen_tcp/);
    assert.match(
      edited('listen_tcp = 1\n', desired({ tls: 'on', migrationWaitSeconds: 3600, plainTcp: 'keep' }), own),
      /listen_tcp = 1\n/,
    );
  });
});

describe('qemuEdits', () => {
  const settings = (want: DesiredState, text = '') => {
    const found = parseConfiguration(text);
    const now = parseConfiguration(text);
    applyEdits(now, found, qemuEdits(want, found, HOST), []);
    return now;
  };

  it('switches VNC and migration only as far as is desired', () => {
    const now = settings(desired({ vncTls: 'keep', probeSeconds: 60, migrateTls: 'allow' }), 'vnc_tls = 0\n');
    assert.equal(now.get('vnc_tls'), 0);
    assert.equal(now.get('migrate_tls_force'), undefined);
    assert.equal(now.get('migrate_tls_x509_verify'), 1);
    assert.equal(settings(desired()).get('migrate_tls_force'), 1);
    assert.equal(settings(desired()).get('vnc_tls'), 1);
  });

  it('has NBD and backups use our files, asks clients of backups for a certificate, and no disk for TLS', () => {
    const now = settings(desired(), 'backup_tls_x509_verify = 0\nbackup_tls_x509_secret_uuid = "u"\n');
    assert.equal(now.get('nbd_tls_x509_cert_dir'), '/etc/pki/libvirt-nbd');
    assert.equal(now.get('backup_tls_x509_cert_dir'), '/etc/pki/libvirt-backup');
    assert.equal(now.get('backup_tls_x509_verify'), 1);
    assert.equal(now.get('backup_tls_x509_secret_uuid'), undefined);
    assert.equal(now.get('nbd_tls'), undefined);
  });

  it('lets those who pull backups go on as found while what was found is served', () => {
    const want = desired();
    const credentials = want.credentials.map((one) => ({ ...one, identity: 'found' as const }));
    const now = settings(
      { ...want, credentials },
      'backup_tls_x509_verify = 0\nnbd_tls_x509_secret_uuid = "u"\n',
    );
    assert.equal(now.get('backup_tls_x509_verify'), 0);
    assert.equal(now.get('nbd_tls_x509_secret_uuid'), 'u');
  });

  it('says where migrations go, unless somebody has said it', () => {
    const migrationHost = 'fd00:1::11';
    assert.equal(settings(desired({ migrationHost })).get('migration_host'), migrationHost);
    const theirs = 'migration_host = "elsewhere"\n';
    assert.equal(settings(desired({ migrationHost }), theirs).get('migration_host'), 'elsewhere');
    assert.equal(settings(desired(), theirs).get('migration_host'), 'elsewhere');
    assert.equal(settings(desired()).get('migration_host'), undefined);
  });

  it('does not ask for a password of a key that has none', () => {
    assert.equal(
      settings(desired(), 'vnc_tls_x509_secret_uuid = "u"\n').get('vnc_tls_x509_secret_uuid'),
      undefined,
    );
  });
});

describe('applyEdits', () => {
  const line = fc.constantFrom(
    'vnc_tls = 1',
    '#vnc_tls = 1',
    '# text',
    'user = "x"',
    'migrate_tls_force = 0',
    '',
  );

  it('is undone byte for byte when nothing is desired any more', () => {
    fc.assert(
      fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
        const text = lines.map((one) => `${one}\n`).join('');
        const found = parseConfiguration(text);
        const now = parseConfiguration(text);
        const edits = qemuEdits(desired(), found, HOST);
        applyEdits(now, found, edits, []);
        assert.deepEqual(unmetEdits(now, edits), []);
        applyEdits(
          now,
          found,
          [],
          edits.map(({ key }) => key),
        );
        assert.equal(now.toString(), text);
      }),
    );
  });

  it('keeps what an administrator writes meanwhile', () => {
    const found = parseConfiguration('user = "a"\n');
    const edits = qemuEdits(desired(), found, HOST);
    const now = parseConfiguration('user = "b"\nmax_files = 5\n');
    applyEdits(now, found, edits, []);
    applyEdits(
      now,
      found,
      [],
      edits.map(({ key }) => key),
    );
    assert.equal(now.toString(), 'user = "b"\nmax_files = 5\n');
  });
});
