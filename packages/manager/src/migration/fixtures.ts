import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import { MIGRATION_MODES } from '@virt-trust/contract/model/migration-options.ts';
import type { HostFacts } from './facts.ts';

/** A host that can migrate in every mode. */
export function testCapabilities(more: Partial<HostCapabilities> = {}): HostCapabilities {
  return {
    at: 0,
    libvirtVersion: '9.0.0',
    qemuVersion: '7.2.22',
    libvirtTls: { addresses: ['0.0.0.0'], port: 16514 },
    libvirtTcp: { addresses: ['0.0.0.0'], port: 16509, authentication: 'none' },
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

/** What is known of a managed host that lacks nothing. */
export function testFacts(name: string, more: Partial<HostFacts> = {}): HostFacts {
  return {
    name,
    kind: 'managed',
    capabilities: testCapabilities(),
    unproven: [],
    barred: null,
    modes: { value: MIGRATION_MODES, from: 'default' },
    tls: { value: true, from: 'default' },
    ...more,
  };
}
