import type { LibvirtAccess, MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { LIBVIRT_TCP_PORT, LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import { MIGRATION_CLIENT_PREFIX } from '../hosts/client-dns.ts';
import type { MigrationContext } from './context.ts';
import { controlTrustOf } from './control-trust.ts';
import { agentPair } from './grants.ts';
import type { MigrationEnd } from './migration-end.ts';
import type { PlannedMigration } from './planning.ts';
import { servedSerialNumber } from './served-serial-number.ts';

/** Of no certificate (RFC 5280 §4.1.2.2: serial numbers are positive), where the host did not say which it serves. */
const NO_SERIAL = '00';

/** What the conducting agent is asked for, of a migration that was decided to be feasible. */
export async function migrationOrder(
  id: string,
  vm: string,
  planned: PlannedMigration,
  doubtSeconds: number,
  context: MigrationContext,
): Promise<MigrationOrder> {
  const { from, to, decision, addresses, options } = planned;
  const mode = decision.mode ?? 'plain';
  const { migrationAddress, listenAddress, tlsDestination } = addresses;
  return {
    id,
    vm,
    mode,
    from: from.name,
    to: to.name,
    ...accessOf(planned),
    peerAgent: agentPair(from, to) !== null,
    stream: mode === 'pinned' ? null : { address: migrationAddress, listenAddress, tlsDestination },
    tls: mode === 'tls' ? await tlsOf(id, from, to, context) : null,
    options,
    doubtSeconds,
  };
}

function accessOf({
  from,
  to,
  decision,
  addresses,
}: PlannedMigration): Pick<MigrationOrder, 'source' | 'destination'> {
  const local: LibvirtAccess = { kind: 'local' };
  if (decision.conductor === 'destination')
    return {
      source: { kind: 'tcp', address: addresses.sourceAddress, port: tcpPortOf(from) },
      destination: local,
    };
  const address = addresses.libvirtAddress;
  switch (decision.mode) {
    case 'tls':
      return { source: local, destination: { kind: 'tls', address, port: tlsPortOf(to) } };
    case 'pinned':
      return { source: local, destination: { kind: 'peer' } };
    case 'plain':
    case null:
      return { source: local, destination: { kind: 'tcp', address, port: tcpPortOf(to) } };
  }
}

/** The port that a host reported; of one without an agent libvirt's own. */
function tcpPortOf(end: MigrationEnd): number {
  const reported = end.kind === 'unmanaged' ? undefined : end.host.observed?.capabilities?.libvirtTcp;
  return reported?.port ?? LIBVIRT_TCP_PORT;
}

function tlsPortOf(end: MigrationEnd): number {
  const reported = end.kind === 'unmanaged' ? undefined : end.host.observed?.capabilities?.libvirtTls;
  return reported?.port ?? LIBVIRT_TLS_PORT;
}

async function tlsOf(
  id: string,
  from: MigrationEnd,
  to: MigrationEnd,
  context: MigrationContext,
): Promise<MigrationOrder['tls']> {
  if (from.kind === 'unmanaged' || to.kind === 'unmanaged') return null;
  const { organization } = await context.settingsOf(from.host);
  return {
    migrationSerialNumber: servedSerialNumber(to.host, 'migration') ?? NO_SERIAL,
    controlBundle: await controlTrustOf(to.host, context.certificates),
    controlCrl: await context.revocations.crlForHosts('control'),
    subject: { commonName: `${MIGRATION_CLIENT_PREFIX}${id}`.slice(0, 64), organization },
  };
}
