import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { readDaemonMode } from '@virt-trust/check/host/libvirt-daemons.ts';
import { PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import type { MigrationPhase } from '@virt-trust/contract/model/migration.ts';
import { JournaledEngine } from './apply/engine.ts';
import { SystemEffects } from './apply/system-effects.ts';
import { HostCapabilityWatch } from './capabilities/capability-watch.ts';
import { SystemCrlEffects } from './crl/effects.ts';
import { HostCrls } from './crl/host-crls.ts';
import { HostGrants } from './grants/host-grants.ts';
import { makeMigrations } from './migration/migrations.ts';
import { libvirtVms } from './migration/vm-view.ts';
import { systemNetwork } from './network/system-network.ts';
import type { EngineFactory } from './ports/engines.ts';
import { HostPreflights } from './preflight/preflights.ts';
import { HostArrivals } from './relay/arrivals.ts';
import { barrierOf } from './sets/barrier.ts';
import { ownProcesses } from './state/own-processes.ts';

const PROOF_BOUND_MS = 120 * SECOND;
const CHECK_INTERVAL_MS = MINUTE;
const CRL_LOAD_BOUND_MS = 10 * SECOND;
const CRL_TICK_MS = 10 * SECOND;
const SECOND_LOOK_MS = 3 * SECOND;
const OVER: ReadonlySet<MigrationPhase> = new Set(['done', 'failed', 'cancelled']);

/** Makes the parts of the agent that change the host. */
export const hostEngines: EngineFactory = async (context) => {
  const { paths, run, firewall, clock, log, mode, record } = context;
  const network = systemNetwork(context);
  const effects = new SystemEffects({ paths, run, firewall, clock });
  const capabilities = new HostCapabilityWatch({
    ...context,
    isUnderWay: () => apply.isUnderWay,
    daemonMode: () => readDaemonMode(run),
    peer: { peerPort: PEER_PORT, peerVersions: [1] },
    reloadWaits: () => apply.reloadWaits(),
    readableForQemu: async (files) => {
      const { uid, gid } = await effects.qemuUser();
      return new Set((await effects.digestsForQemu(files, { qemuUid: uid, qemuGid: gid })).keys());
    },
  });
  const apply = new JournaledEngine({
    paths,
    clock,
    log,
    mode,
    network: () => network.report(),
    capabilities: () => capabilities.report(),
    applied: () => capabilities.changed(),
    onWait: () => void capabilities.changed(),
    emit: record,
    effects,
    barrier: barrierOf(process.env['VIRT_TRUST_BARRIER']),
    proofBoundMs: PROOF_BOUND_MS,
    checkIntervalMs: CHECK_INTERVAL_MS,
  });
  const crls = new HostCrls({
    paths,
    clock,
    log,
    emit: record,
    effects: new SystemCrlEffects(paths, run),
    barrier: barrierOf(process.env['VIRT_TRUST_CRL_BARRIER']),
    loadBoundMs: CRL_LOAD_BOUND_MS,
    tickMs: CRL_TICK_MS,
    secondLookMs: SECOND_LOOK_MS,
  });
  const migrations = await makeMigrations(context, {
    conductors: await ownProcesses(paths, run, { word: 'conduct', unit: 'virt-trust-migration' }),
    vms: libvirtVms(paths, clock),
    findGrant: (id) => grants.find(id),
    qemuUser: () => effects.qemuUser(),
  });
  const arrivals = new HostArrivals({
    context,
    processes: await ownProcesses(paths, run, { word: 'relay', unit: 'virt-trust-relay' }),
    qemuUser: () => effects.qemuUser(),
    findGrant: (id) => grants.find(id),
  });
  const grants = new HostGrants({
    context,
    isOver: async ({ id }) => OVER.has((await migrations.get(id, 0, new AbortController().signal)).phase),
    isRunning: (id) => arrivals.isRunning(id),
    release: async (id) => {
      await Promise.all([arrivals.release(id), preflights.release(id)]);
    },
  });
  const preflights = new HostPreflights({
    context,
    grants,
    capabilities: () => capabilities.report(),
    qemuUser: () => effects.qemuUser(),
  });
  await preflights.start();
  return { apply, crls, migrations, network, grants, arrivals, preflights, capabilities };
};
