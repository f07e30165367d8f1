import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { credentialNames, desiredStateOf, endpointsOf } from './desired-state.ts';
import { NOTHING_FOUND, testHost } from './fixtures.ts';
import type { FoundFacts, Host } from './host.ts';

const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';

function desired(host: Host, migrationModes: readonly string[] = ['tls']) {
  const state = desiredStateOf({
    host,
    epoch: 1,
    organization: 'virt-trust',
    keyAlgorithm: 'ecdsa-p256',
    migrationModes,
    tls: 'on' as const,
    migrationWaitSeconds: 3600,
    probeSeconds: 60,
    bundles: { control: PEM, migration: PEM, console: PEM, storage: PEM },
    clientDns: ['O=virt-trust,CN=virt-trust *'],
    consoles: 'keep',
    announceTo: [],
  });
  return validatorOf(DesiredState)(state, 'desired state');
}

const found = (more: Partial<FoundFacts>) => testHost('host-1', { found: { ...NOTHING_FOUND, ...more } });

test('a fresh host gets everything at once: our certificates, TLS for VNC, native TLS forced', () => {
  const state = desired(testHost('host-1'));
  assert.deepEqual(
    state.credentials.map(({ service, identity, keepFoundTrust }) => [service, identity, keepFoundTrust]),
    [
      ['libvirt', 'ours', false],
      ['migration', 'ours', false],
      ['vnc', 'ours', false],
      ['spice', 'ours', false],
      ['nbd', 'ours', false],
      ['backup', 'ours', false],
    ],
  );
  const { probeSeconds: _, ...settings } = state.settings;
  assert.deepEqual(settings, {
    tls: 'on',
    migrationWaitSeconds: 3600,
    plainTcp: 'keep',
    vncTls: 'on',
    spiceTls: 'on',
    migrateTls: 'force',
    clientDns: [],
    migrationHost: null,
    consoles: 'keep',
    announceTo: [],
  });
});

test('a service with a found certificate serves it and trusts both until the gate; the others get ours', () => {
  const state = desired(found({ identities: ['libvirt'], authorities: ['libvirt'] }));
  assert.deepEqual(
    state.credentials.map(({ identity, keepFoundTrust }) => [identity, keepFoundTrust]),
    [['found', true], ...Array.from({ length: 5 }, () => ['ours', false])],
  );
  assert.equal(state.settings.migrateTls, 'allow');
});

test('each gate changes what it says and nothing else', () => {
  const host = found({ identities: ['libvirt'], authorities: ['libvirt'], tcpListening: true, vms: 2 });
  const passed = (...gates: Host['grantedGates']) => desired({ ...host, grantedGates: gates });
  assert.equal(passed().settings.vncTls, 'keep');
  assert.equal(passed().settings.spiceTls, 'keep');
  assert.equal(passed('vnc-tls').settings.vncTls, 'on');
  assert.equal(passed('vnc-tls').settings.spiceTls, 'on');
  assert.equal(passed('serve').credentials[0]?.identity, 'ours');
  assert.equal(passed('serve').credentials[0]?.keepFoundTrust, true);
  assert.equal(passed('plain-tcp-off').settings.plainTcp, 'off');
  assert.equal(passed('plain-tcp-off').settings.migrateTls, 'allow');
  assert.equal(passed('retire-found-ca').credentials[0]?.keepFoundTrust, false);
  assert.equal(passed('serve', 'plain-tcp-off', 'retire-found-ca').settings.migrateTls, 'force');
});

test('native TLS is forced only where the mode is tls alone', () => {
  assert.equal(desired(testHost('host-1'), ['tls', 'plain']).settings.migrateTls, 'allow');
});

test('our short-lived clients are let in where others keep a list of DNs', () => {
  assert.deepEqual(desired(found({ allowedDns: true })).settings.clientDns, ['O=virt-trust,CN=virt-trust *']);
});

test('every service is an endpoint on the management interface, and none without one', () => {
  assert.deepEqual(
    endpointsOf(testHost('host-1')).map(({ service, interface: on }) => [service, on]),
    [
      ['libvirt', 'eth0'],
      ['migration', 'eth0'],
      ['vnc', 'eth0'],
      ['spice', 'eth0'],
      ['nbd', 'eth0'],
      ['backup', 'eth0'],
    ],
  );
  const nowhere = testHost('host-1', {
    declared: { interface: null, names: { dns: [], addresses: [] }, interfaces: [], refused: [] },
  });
  assert.deepEqual(endpointsOf(nowhere), []);
});

test('X.520: a common name has at most 64 characters, the names stay whole', () => {
  const name = `${'a'.repeat(60)}.example.org`;
  const { commonName } = credentialNames(testHost(name), 'vnc');
  assert.equal(commonName.length, 64);
});

test('others are told to send VMs to the interface for migrations where there is one of its own, by its name first', () => {
  const management = {
    name: 'eth0',
    roles: ['management' as const],
    names: { dns: ['host-1'], addresses: ['192.0.2.11'] },
  };
  const hostWith = (roles: ('management' | 'migration')[], dns: string[]) => {
    const second = { name: 'eth1', roles, names: { dns, addresses: ['10.0.1.11', 'fd00:1::11'] } };
    const declared = {
      interface: 'eth0',
      names: management.names,
      interfaces: [management, second],
      refused: [],
    };
    return desired(testHost('host-1', { declared })).settings.migrationHost;
  };
  assert.equal(hostWith(['migration'], []), '10.0.1.11');
  assert.equal(hostWith(['migration'], ['host-1.migration.example']), 'host-1.migration.example');
  assert.equal(hostWith(['management', 'migration'], []), null);
  assert.equal(hostWith(['management'], []), null);
});
