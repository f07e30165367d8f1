import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { declaredOn, testHost } from '../hosts/fixtures.ts';
import { SqliteCrlRecoveryStore } from '../store/crl-recovery-store.ts';
import type { Database } from '../store/database.ts';
import { type settableClock, temporaryDirectory } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { markStoreRestored } from '../store/mark-restored.ts';
import { openStore } from '../store/open-store.ts';
import { Canaries } from './canary.ts';
import { crlConditions } from './crl-conditions.ts';
import { crlFacts } from './crl-facts.ts';
import { CrlIssuer } from './crl-issuer.ts';
import { CrlLearning } from './crl-learning.ts';
import { CrlRecovery } from './crl-recovery.ts';
import { CrlDelivery, takesCrls } from './delivery.ts';
import { Enforcement } from './enforcement.ts';
import { channelsTo, SimulatedHost } from './fixture-hosts.ts';
import { revocationOn } from './fixtures.ts';
import { CrlUpkeep } from './upkeep.ts';

const NOWHERE = declaredOn('eth0', { dns: [], addresses: [] });

/** For tests: hosts that hold nothing yet; nobody can be dialled on them. */
export function simulatedHosts(names: readonly string[]): SimulatedHost[] {
  return names.map((name) => new SimulatedHost(testHost(name, { declared: NOWHERE })));
}

/** For tests: a copy of a store as it is now, to be restored. */
export function backUp(t: TestContext, database: Database): string {
  const directory = temporaryDirectory(t);
  database.run('vacuum into ?', join(directory, 'manager.db'));
  return directory;
}

/** For tests: opens a copy as a restored store. */
export function restoreFrom(t: TestContext, directory: string, clock: ReturnType<typeof settableClock>) {
  const store = openStore(directory, clock);
  t.after(() => store.close());
  markStoreRestored(store.database, clock, 'test');
  return { database: store.database, clock };
}

/** For tests: revocation with simulated hosts, on a new store or on one that is there. */
export async function fleetOf(
  t: TestContext,
  simulated: readonly SimulatedHost[],
  on?: NonNullable<Parameters<typeof revocationOn>[1]>['on'],
) {
  const made = await revocationOn(t, on === undefined ? {} : { on });
  const { authorities, issuance, repository, crls, settings, clock, database, audit } = made;
  const hosts = new SqliteHostRepository(database);
  if (on === undefined) for (const { host } of simulated) await hosts.save(host);
  const channels = channelsTo(simulated);
  const canaries = new Canaries(authorities, issuance, repository);
  const recoveries = new SqliteCrlRecoveryStore(database, clock);
  const common = { authorities, crls, hosts, channels, clock, log: silentLog };
  const recovery = new CrlRecovery({
    ...common,
    repository: recoveries,
    takesCrls,
    onEnd: () => upkeep.hurry(),
  });
  const issuer = new CrlIssuer({
    ...common,
    revocations: repository,
    settings,
    canary: () => canaries.make(),
    requireSigning: (what) => recovery.require(what),
    onSigned: () => {},
  });
  const learning = new CrlLearning({
    ...common,
    repository: recoveries,
    recovery,
    takesCrls,
    audit,
    onLearnt: () => {
      if (!recovery.held) upkeep.hurry();
    },
  });
  const delivery = new CrlDelivery({ ...common, issuer, revocations: repository, recovery, learning });
  const enforcement = new Enforcement({
    ...common,
    issuer,
    delivery,
    canaries,
    ownClient: async () => ({ certificatePem: '', privateKeyPem: '' }),
  });
  const stop = new AbortController();
  const { signal } = stop;
  const upkeep = new CrlUpkeep({ ...common, issuer, delivery, recovery, signal });
  t.after(async () => {
    stop.abort();
    await upkeep.idle();
  });
  const conditions = async () =>
    crlConditions(await crlFacts({ ...common, issuer, settings, repository, upkeep, recovery }));
  return {
    ...made,
    hosts,
    simulated,
    channels,
    canaries,
    issuer,
    recovery,
    learning,
    delivery,
    enforcement,
    upkeep,
    signal,
    conditions,
  };
}
