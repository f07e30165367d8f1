import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { parseTbsCertificate } from '@virt-trust/pki/certificate.ts';
import { encodePrivateKeyPem } from '@virt-trust/pki/key.ts';
import { isSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { composeAlarms } from './alarms-domain.ts';
import { certifiableBy } from './authorities/certifiable-name.ts';
import type { AuthorityConstraints } from './authorities/internal-creation.ts';
import type { Core, Domain } from './core.ts';
import { Announcements } from './hosts/announcements.ts';
import { HostChannels } from './hosts/channels.ts';
import { declaredForIssuance } from './hosts/declared-host.ts';
import { Greeting } from './hosts/greeting.ts';
import { hostJobs } from './hosts/host-jobs.ts';
import { bearsOnHosts, hostSettingsOf, TLS_ENABLED } from './hosts/host-settings.ts';
import { learnFromHost } from './hosts/learn-from-host.ts';
import { ManagerIdentity } from './hosts/manager-identity.ts';
import { isOnManager, managerNames, managerNamesFor } from './hosts/manager-names.ts';
import { Observing } from './hosts/observing.ts';
import type { CertificateSource, HostsContext } from './hosts/ports.ts';
import { channelIsUpAt, otherAddressesOf } from './hosts/readdressing.ts';
import { requireHost } from './hosts/require-host.ts';
import { securityOf, shownState } from './hosts/security.ts';
import { SettingsBringing, settingsJob } from './hosts/settings-bringing.ts';
import { SettingsRetries } from './hosts/settings-retries.ts';
import { consoleHandlers } from './http/handlers/consoles.ts';
import { hostDetail, hostHandlers } from './http/handlers/hosts.ts';
import { interfaceHandlers } from './http/handlers/interfaces.ts';
import { declareAdded } from './interfaces/first-declaration.ts';
import { composeInterfaces } from './interfaces-domain.ts';
import { namesIn } from './issuance/certificate-view.ts';
import { composeIssuance, type IssuanceDomain } from './issuance-domain.ts';
import { composeMigration } from './migration-domain.ts';
import { composeRenewal } from './renewal-domain.ts';
import { composeRevocation } from './revocation-domain.ts';
import { composeStatus } from './status-domain.ts';
import { SqliteHostRepository } from './store/host-repository.ts';
import { SqliteManagerIdentityStore } from './store/manager-identity-store.ts';
import { composeWatching } from './watching-domain.ts';

/** Hosts, their channels and jobs, with the issuance that serves them. */
export function hostsDomain(constraints: AuthorityConstraints): (core: Core) => Promise<Domain> {
  return async (core) => {
    const repository = new SqliteHostRepository(core.database, core.clock);
    const ownNames = managerNames(core.clock);
    const namesForDeclaring = managerNamesFor(ownNames);
    const issuing = await composeIssuance(core, {
      declaredNames: { find: async (name) => declaredForIssuance(await repository.find(name)) },
      managerNames: ownNames,
      constraints,
      renewalOf: (serialNumber) => renewal.planOf(serialNumber),
    });
    const mayCertify = certifiableBy(issuing.authorities);
    const identity = await ManagerIdentity.open(
      new SqliteManagerIdentityStore(core.database, core.seal),
      core.randomness,
    );
    const channels = new HostChannels({
      identities: identity.all,
      log: core.log,
      clock: core.clock,
      otherAddressesOf: async (id) => {
        const host = await repository.get(id);
        return host === null ? [] : otherAddressesOf(host);
      },
      onState: (id, name, state, ownPin) => {
        watching.channel(id, state);
        alarms.channel(id, state);
        if (state.kind === 'up')
          void channelIsUpAt(id, state.host, context)
            .catch((error: unknown) =>
              core.log.warn({ host: name, reason: describeError(error) }, 'its address was not kept'),
            )
            .then(() => greeting.greet(name, ownPin, core.signal))
            .then(() => {
              watching.greeted(id);
              interfaces.greeted(id);
              migrations.greeted(name);
              return bringing.greeted(id);
            });
        if (state.kind !== 'up' && state.kind !== 'down') return;
        if (state.kind === 'up') revocation.channelUp(name);
        if (state.kind === 'up') renewal.hostIsBack(name);
        const message = state.kind === 'up' ? state.group : state.reason.message;
        core.events
          .publish({ kind: `channel.${state.kind}`, subject: name, message })
          .catch((error: unknown) => {
            core.log.warn({ host: name, reason: describeError(error) }, 'event lost');
          });
      },
    });
    const certificates = certificateSource(issuing);
    const revocation = composeRevocation(core, {
      issuing,
      hosts: repository,
      channels,
      ownClient: () => certificates.ownClient(),
    });
    const context: HostsContext = {
      clock: core.clock,
      log: core.log,
      repository,
      channels,
      observing: new Observing(repository),
      certificates,
      revocations: revocation.forHosts,
      audit: { append: (entry) => core.audit.append([entry]) },
      identities: identity,
      settingsOf: (host) =>
        // Of the authority, not of the setting: that one may have changed since the authority was made.
        hostSettingsOf(host, issuing.authorities.byPurpose('control').organization, core.settings),
      forgetSettings: (host, actor) => core.settings.forgetHost(host, actor),
      tlsOf: async ({ name, cluster }) => {
        const { value, from } = await core.settings.explain(TLS_ENABLED, { host: name, cluster });
        return { enabled: value === true, from };
      },
      declareAdded: (added) =>
        declareAdded(added, {
          repository,
          settings: core.settings,
          managerNamesFor: namesForDeclaring,
          mayCertify,
          isOnManager: isOnManager(ownNames),
        }),
      managerNamesFor: namesForDeclaring,
      mayCertify,
      lookOutside: (id) => watching.outside.look(id),
      announcePort: () => announcements.port,
      programPath: core.agentProgram ?? '',
      epoch: identity.epoch,
    };
    const announcements = new Announcements({
      repository,
      channels,
      identity: () => identity.current,
      counter: core.metrics.counter('virt_trust_announcements_total', 'Announcements of hosts by outcome.'),
      clock: core.clock,
      log: core.log,
    });
    repository.onChange((id) => {
      const address = channels.detourOf(id);
      if (address === null) return;
      channelIsUpAt(id, address, context).then(
        (host) => channels.of(host),
        (error: unknown) =>
          core.log.warn({ host: id, reason: describeError(error) }, 'its address was not kept'),
      );
    });
    const status = composeStatus(core, issuing, revocation.status);
    const greeting = new Greeting(identity, context, [learnFromHost(issuing.adoption, context)]);
    const renewal = composeRenewal(core, context, issuing);
    const watching = composeWatching(core, context, (id) => alarms.looked(id));
    const alarms = composeAlarms(core, { ...issuing, repository, outside: watching.outside });
    const definitions = hostJobs(context, identity);
    for (const definition of Object.values(definitions)) core.jobs.register(definition as never);
    const migrations = composeMigration(core, context);
    const retries = new SettingsRetries({
      wake: (id) => void bringing.again(id),
      clock: core.clock,
      randomness: core.randomness,
      signal: core.signal,
    });
    const bringingJob = settingsJob(context, retries);
    core.jobs.register(bringingJob);
    const retryOf = (id: HostId) => retries.of(id);
    const isHeld = async () => revocation.forHosts.isHeld() || (await renewal.freeze.isFrozen());
    const bringing = new SettingsBringing({
      context,
      jobs: core.jobs,
      job: bringingJob,
      retries,
      isHeld,
      signal: core.signal,
    });
    const bringAll = () => {
      bringing.resume().catch((error: unknown) => {
        core.log.warn({ reason: describeError(error) }, 'settings were not brought to all hosts');
      });
    };
    revocation.forHosts.onResume(bringAll);
    renewal.onThaw(bringAll);
    const interfaces = composeInterfaces(core, {
      context,
      certificates: issuing.certificates,
      job: definitions.provision,
      isFrozen: () => renewal.freeze.isFrozen(),
      onThaw: (listener) => renewal.onThaw(listener),
    });
    core.metrics.gauge('virt_trust_hosts', 'Hosts by state and channel.', async () => {
      const hosts = await repository.list();
      const counts = new Map<string, number>();
      for (const host of hosts) {
        const state = shownState(host, securityOf(host, await context.tlsOf(host)));
        const key = `${state} ${channels.stateOf(host.id)?.kind === 'up' ? 'up' : 'down'}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      return [...counts].map(([key, value]) => ({
        labels: { state: key.split(' ')[0] ?? '', channel: key.split(' ')[1] ?? '' },
        value,
      }));
    });
    const isInCluster = async (name: string) =>
      (await repository.list()).some(({ cluster }) => cluster === name) ||
      (await migrations.isInCluster(name));
    // Before any desired state is planned: it tells hosts where.
    await announcements.start(core.announceListen);
    return {
      handlers: {
        ...issuing.handlers,
        ...renewal.handlers,
        ...revocation.handlers,
        ...alarms.handlers,
        ...consoleHandlers({
          ...context,
          passwordSeconds: ({ name, cluster }) =>
            core.settings.value('console.password_seconds', { host: name, cluster }),
        }),
        ...interfaceHandlers({
          context,
          settings: core.settings,
          jobs: core.jobs,
          provision: definitions.provision,
          declaring: interfaces.declaring,
          detailOf: (name) => hostDetail(name, { context, alarmsOf: alarms.ofHost, retryOf }),
          whileRenaming: (rename) =>
            alarms.whileRenaming(async () => {
              const host = await rename();
              core.settings.reread();
              return host;
            }),
        }),
        ...migrations.handlers,
        ...hostHandlers({
          context,
          identity,
          jobs: core.jobs,
          definitions,
          alarmsOf: alarms.ofHost,
          retryOf,
          provisionDefaults: async ({ name, cluster }) => ({
            provider: await core.settings.value('certificate.provider', { host: name, cluster }),
            reconnect: await core.settings.value('provision.reconnect', { host: name, cluster }),
          }),
        }),
      },
      status,
      clusterOf: async (name) =>
        (await migrations.clusterOf(name)) ?? (await requireHost(name, context)).cluster,
      async settingPut(name, place, actor) {
        const { jobs, warnings } = bearsOnHosts(name)
          ? await bringing.settingPut(place, actor)
          : { jobs: [], warnings: [] };
        const { scope, target } = place;
        if (scope === 'cluster' && !(await isInCluster(target)))
          warnings.push(`no host is in cluster ${target}: this holds for those that will be`);
        return { jobs, warnings };
      },
      async start() {
        await revocation.start();
        for (const host of await repository.list()) await channels.of(host);
        await interfaces.start();
        await renewal.start();
        await watching.start();
        await alarms.start();
      },
      async close() {
        await alarms.close();
        await revocation.close();
        await interfaces.close();
        await renewal.close();
        await announcements.close();
        await channels.close();
        await issuing.close();
      },
    };
  };
}

function certificateSource({
  authorities,
  issuance,
  ownClients,
  certificates,
}: IssuanceDomain): CertificateSource {
  return {
    bundle: async (purpose) => authorities.bundle(purpose),
    async issueForHost({ host, service, csrPem, actor }) {
      const issued = await issuance.issueForHost({ host: host.name, service, csr: csrPem, actor });
      return { serialNumber: issued.serialNumber, certificatePem: issued.pem };
    },
    async issueMigrationClient({ host, commonName, csrPem, minutes, actor }) {
      const issued = await issuance.issueClient({
        csr: csrPem,
        commonName,
        minutes,
        heldBy: host.name,
        actor,
      });
      return { certificatePem: issued.pem };
    },
    async ownClient() {
      const { key, certificate } = await ownClients.get();
      return { certificatePem: certificate.pem, privateKeyPem: encodePrivateKeyPem(key) };
    },
    async namesOf(serialNumber) {
      if (!isSerialNumber(serialNumber)) return null;
      const record = await certificates.find(serialNumber);
      return record === null ? null : namesIn(parseTbsCertificate(record.tbs));
    },
  };
}
