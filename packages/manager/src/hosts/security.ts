import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { Host } from './host.ts';

/** What a host can do in migrations by its own report; without one it counts as not secured. */
export function securityOf({
  observed,
  observeOnly,
}: Pick<Host, 'observed' | 'observeOnly'>): HostSummary['security'] {
  const reported = observed?.capabilities ?? null;
  if (reported === null)
    return { reported: false, modes: [], missing: ['its agent has not reported what it can do'] };
  const modes: MigrationMode[] = [];
  const missing: string[] = [];
  if (observeOnly) missing.push('the agent only looks: take the host under management');
  if (reported.libvirtTls === null) missing.push('libvirt does not listen with TLS');
  if (!reported.nativeTls) missing.push(reported.nativeTlsLacks);
  if (missing.length === 0) modes.push('tls');
  if (reported.pinned && !reported.migrateTlsForce) modes.push('pinned');
  if (reported.libvirtTcp !== null && !reported.migrateTlsForce) modes.push('plain');
  return { reported: true, modes, missing };
}
