import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import { MIGRATION_MODES } from '@virt-trust/contract/model/migration-options.ts';
import type { HostFacts } from './facts.ts';

/** What is known of a managed host that lacks nothing. */
export function testFacts(name: string, more: Partial<HostFacts> = {}): HostFacts {
  return {
    name,
    kind: 'managed',
    capabilities: testCapabilities(),
    startsLibvirt: null,
    isForceDue: false,
    unproven: [],
    barred: null,
    modes: { value: MIGRATION_MODES, from: 'default' },
    tls: { value: true, from: 'default' },
    ...more,
  };
}
