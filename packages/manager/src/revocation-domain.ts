import { describeError } from '@virt-trust/base/error.ts';
import type { RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Core } from './core.ts';
import type { HostChannels } from './hosts/channels.ts';
import type { HostRepository } from './hosts/host.ts';
import type { HostRevocations, OwnClient } from './hosts/ports.ts';
import { requireHost } from './hosts/require-host.ts';
import { revocationHandlers } from './http/handlers/revocation.ts';
import type { Handlers } from './http/handlers.ts';
import type { IssuanceDomain } from './issuance-domain.ts';
import { Canaries } from './revocation/canary.ts';
import { cancelMigrations } from './revocation/cancel-migrations.ts';
import { crlConditions } from './revocation/crl-conditions.ts';
import { crlFacts } from './revocation/crl-facts.ts';
import { CrlIssuer } from './revocation/crl-issuer.ts';
import { CrlLearning } from './revocation/crl-learning.ts';
import { CrlRecovery } from './revocation/crl-recovery.ts';
import { CrlDelivery, takesCrls, undelivered } from './revocation/delivery.ts';
import { Enforcement } from './revocation/enforcement.ts';
import { revocationJob } from './revocation/revocation-job.ts';
import { Revoking } from './revocation/revoking.ts';
import { CrlUpkeep } from './revocation/upkeep.ts';
import type { StatusSource } from './status/status-source.ts';
import { SqliteCrlRecoveryStore } from './store/crl-recovery-store.ts';
import { SqliteCrlStore } from './store/crl-store.ts';
import { SqliteRevocationStore } from './store/revocation-store.ts';

/** What revocation needs of the rest of the manager. */
export interface RevocationParts {
  readonly issuing: IssuanceDomain;
  readonly hosts: HostRepository;
  readonly channels: HostChannels;
  readonly ownClient: () => Promise<OwnClient>;
}

/** What the rest of the manager needs of revocation. */
export interface RevocationDomain {
  readonly handlers: Pick<
    Handlers,
    'revokeCertificate' | 'releaseCertificate' | 'revokeHost' | 'listCrls' | 'refreshCrls'
  >;
  readonly forHosts: HostRevocations;
  /** For those who publish. */
  readonly status: StatusSource;
  /** To be called when a host's channel came up. */
  readonly channelUp: (host: string) => void;
  start(): Promise<void>;
  close(): Promise<void>;
}

/** Puts revocation on the store, the authorities and the channels. */
export function composeRevocation(core: Core, parts: RevocationParts): RevocationDomain {
  const { clock, log, settings, jobs, signal } = core;
  const { authorities, issuance } = parts.issuing;
  const { hosts, channels, ownClient } = parts;
  const repository = new SqliteRevocationStore(core.database, clock);
  const crls = new SqliteCrlStore(core.database, clock);
  const resumed: (() => void)[] = [];
  const listeners: ((authorities: readonly string[]) => void)[] = [];
  const changed = (names: readonly string[]) => {
    for (const listener of listeners) listener(names);
    core.alarms.changed('revocation');
  };
  const recoveries = new SqliteCrlRecoveryStore(core.database, clock);
  const recovery = new CrlRecovery({
    repository: recoveries,
    hosts,
    takesCrls,
    clock,
    log,
    onEnd: () => {
      changed(authorities.list().map(({ name }) => name));
      upkeep.hurry();
      for (const listener of resumed) listener();
    },
  });
  const learning = new CrlLearning({
    authorities,
    crls,
    repository: recoveries,
    recovery,
    takesCrls,
    hosts,
    channels,
    audit: core.audit,
    onLearnt: (names) => {
      changed(names);
      if (!recovery.held) upkeep.hurry();
    },
  });
  const canaries = new Canaries(authorities, issuance, repository);
  const issuer = new CrlIssuer({
    authorities,
    revocations: repository,
    crls,
    settings,
    clock,
    log,
    canary: async () => ((await hosts.list()).some(takesCrls) ? canaries.make() : null),
    requireSigning: (what) => recovery.require(what),
    onSigned: ({ authority }) => changed([authority]),
  });
  const delivery = new CrlDelivery({
    authorities,
    issuer,
    crls,
    revocations: repository,
    hosts,
    channels,
    clock,
    log,
    recovery,
    learning,
  });
  const enforcement = new Enforcement({ authorities, issuer, delivery, canaries, hosts, ownClient, clock });
  const revoking = new Revoking({ repository, authorities, clock, onChange: changed });
  const upkeep = new CrlUpkeep({
    authorities,
    issuer,
    crls,
    delivery,
    recovery,
    hosts,
    channels,
    clock,
    log,
    signal,
  });
  const require = (name: string) => requireHost(name, { repository: hosts });
  const job = revocationJob({
    revoking,
    repository,
    enforcement,
    requireHost: require,
    isHeld: () => recovery.held,
    recover: (endedBy, until) => learning.recover(endedBy, until),
    cancelMigrations: (host, actor) => cancelMigrations(host, actor, jobs),
  });
  jobs.register(job);
  core.alarms.register({
    name: 'revocation',
    conditions: async () =>
      crlConditions(
        await crlFacts({
          authorities,
          issuer,
          crls,
          hosts,
          channels,
          clock,
          settings,
          repository,
          upkeep,
          recovery,
        }),
      ),
  });
  const spread = async (parties: readonly RevokedParty[], until: AbortSignal) => {
    // Held back, it is signed and brought once that is over.
    if (recovery.held) return;
    await enforcement.sign('if-needed');
    await enforcement.spread(until, parties);
  };
  return {
    handlers: revocationHandlers({
      jobs,
      job,
      revoking,
      authorities,
      issuer,
      recovery,
      crls,
      hosts,
      requireHost: require,
    }),
    forHosts: {
      async crlForHosts(purpose: Purpose) {
        recovery.require('tell what was revoked');
        const crl = await issuer.ensure(authorities.byPurpose(purpose).name);
        return encodePem('X509 CRL', crl.forHosts);
      },
      revocationOf(serialNumber) {
        const status = repository.statusOf(serialNumber as SerialNumber);
        return status.kind === 'revoked' ? { at: status.at, reason: status.reason } : null;
      },
      isHeld: () => recovery.held,
      onResume: (listener) => {
        resumed.push(listener);
      },
      async deliver(host, until) {
        const outcome = await delivery.deliver(host, [], until);
        if (outcome.kind !== 'current') throw undelivered(outcome);
      },
      lift: (host) => revoking.lift(host),
      async retire(host, asked, until) {
        const serials = await revoking.retireHost(host, { ...asked, reason: 'cessationOfOperation' });
        await spread(await repository.partyOf(asked.origin), until);
        return serials.length;
      },
      hasEstranged: (host) => revoking.hasEstranged(host),
      async revokeEstranged(host, planned, asked, until) {
        const count = await revoking.revokeEstranged(host, planned, asked);
        if (count > 0) await spread([], until);
        return count;
      },
    },
    status: {
      statusOf: (authority, serialNumber) => repository.status(authority, serialNumber),
      isHeld: () => recovery.held,
      crlOf: (authority) => {
        const crl = issuer.current(authority);
        return crl === null
          ? null
          : { der: crl.whole, thisUpdate: crl.thisUpdate, nextUpdate: crl.nextUpdate };
      },
      onChange: (listener) => {
        listeners.push(listener);
      },
    },
    channelUp: (host) => {
      delivery.catchUp(host, signal).catch((error: unknown) => {
        if (!signal.aborted) log.warn({ host, reason: describeError(error) }, 'cannot bring the CRLs');
      });
    },
    start: () => upkeep.start(),
    close: () => upkeep.idle(),
  };
}
