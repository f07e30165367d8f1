import type { HostCapabilities } from './capabilities.ts';
import type { DesiredSettings } from './desired-state.ts';
import type { MigrationOptions } from './migration-options.ts';

/** For tests: how a VM is migrated where neither a request nor a setting says anything. */
export function testMigrationOptions(more: Partial<MigrationOptions> = {}): MigrationOptions {
  return {
    live: true,
    offline: false,
    persistent: false,
    undefineSource: false,
    copyStorage: 'none',
    copyDisks: [],
    postCopy: false,
    parallel: 0,
    compression: 'none',
    autoConverge: false,
    bandwidthMiB: 0,
    downtimeMs: 0,
    timeoutSeconds: 0,
    timeoutAction: 'abort',
    flags: 0,
    ...more,
  };
}

/** For tests: what a host reports that can migrate in every mode. */
export function testCapabilities(more: Partial<HostCapabilities> = {}): HostCapabilities {
  return {
    at: 0,
    libvirtVersion: '9.0.0',
    qemuVersion: '7.2.22',
    libvirtTls: { addresses: ['*'], port: 16514 },
    libvirtTcp: { addresses: ['*'], port: 16509, authentication: 'none' },
    nativeTls: true,
    nativeTlsLacks: '',
    migrateTlsForce: false,
    pinned: true,
    peerPort: 16518,
    peerVersions: [1],
    reloadWaits: [],
    ...more,
  };
}

/** For tests: what is wanted of a host that takes TLS for all it has. */
export function testDesiredSettings(more: Partial<DesiredSettings> = {}): DesiredSettings {
  return {
    tls: 'on',
    migrationWaitSeconds: 3600,
    plainTcp: 'off',
    vncTls: 'on',
    spiceTls: 'on',
    probeSeconds: 60,
    migrateTls: 'allow',
    clientDns: [],
    migrationHost: null,
    consoles: 'keep',
    announceTo: [],
    ...more,
  };
}
