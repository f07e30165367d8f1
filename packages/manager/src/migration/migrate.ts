import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import {
  cancelMigration,
  createMigration,
  getMigration,
  getStatus,
  startMigration,
} from '@virt-trust/contract/agent/operations.ts';
import type { MigrateVm, MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { MIGRATION_CLIENT_PREFIX } from '../hosts/client-dns.ts';
import { assertClock } from '../hosts/clock-skew.ts';
import type { Host } from '../hosts/host.ts';
import type { HostsContext } from '../hosts/ports.ts';
import { requireHost } from '../hosts/require-host.ts';
import type { JobContext } from '../jobs/job.ts';
import { Cancelled } from '../jobs/job-runner.ts';
import type { MigrationAddresses } from './addresses.ts';
import { chosenAddresses, servedBy } from './chosen-addresses.ts';

/** Migrates a VM live over `qemu+tls://` with native TLS, and says what was seen to carry it. */
export async function migrate(order: MigrateVm, context: HostsContext, job: JobContext): Promise<string> {
  const [from, to] = await job.step('Check both hosts', async (report) => {
    const pair = await checkedPair(order, context);
    report(`${order.from} and ${order.to} have libvirt and migration proven`);
    return pair;
  });
  const channel = await context.channels.of(from);
  await channel.waitUntilUp(job.signal);
  const { agent } = channel;
  const ahead = await job.step('Compare the clocks', (report) =>
    compareClocks(from, to, context, job, report),
  );
  const addresses = await job.step('Choose the network', async (report) => {
    const chosen = await chosenAddresses(order, [from, to], context, job);
    const libvirt =
      chosen.libvirtAddress === chosen.migrationAddress ? '' : `, libvirt at ${chosen.libvirtAddress}`;
    report(`${chosen.migrationAddress} on ${chosen.interface} of ${to.name}${libvirt}`);
    return chosen;
  });
  const request = await migrationOrder({ order, from, to, addresses }, context, job);
  await job.step('Make a client certificate for this migration', async (report) => {
    if ((await job.recall('started')) !== undefined) return report('made before');
    const { clientCertificateMinutes } = await context.settingsOf(from);
    const { csr } = await agent.call(createMigration, { body: request }, { signal: job.signal });
    const { certificatePem } = await context.certificates.issueMigrationClient({
      host: from,
      commonName: request.tls?.subject.commonName ?? '',
      csrPem: csr ?? '',
      minutes: clientCertificateMinutes + Math.ceil(ahead / MINUTE),
      actor: job.actor,
    });
    await job.remember('started', true);
    await agent.call(
      startMigration,
      { params: { id: job.id }, body: { certificate: certificatePem } },
      { signal: job.signal },
    );
    report(`valid for ${clientCertificateMinutes} minutes`);
  });
  const status = await job.step('Migrate', (report) => follow(order, agent, job, report));
  return conclusion(order, status);
}

/** How far the destination's clock is ahead: for so long more must the client certificate be valid. Throws `host.clock_skew`. */
async function compareClocks(
  from: Host,
  to: Host,
  context: HostsContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<number> {
  const ahead = async (host: Host) => {
    const channel = await context.channels.of(host);
    await channel.waitUntilUp(job.signal);
    const { now } = await channel.agent.call(getStatus, {}, { signal: job.signal });
    const { allowedSkewSeconds } = await context.settingsOf(host);
    assertClock(host.name, instant(now), context.clock.now(), allowedSkewSeconds);
    return now - context.clock.now();
  };
  const [ofFrom, ofTo] = await Promise.all([ahead(from), ahead(to)]);
  const seconds = (milliseconds: number) => `${Math.round(milliseconds / 1000)} s`;
  report(`${from.name} ${seconds(ofFrom)} and ${to.name} ${seconds(ofTo)} ahead of the manager`);
  return Math.max(0, ofTo);
}

async function checkedPair(order: MigrateVm, context: HostsContext): Promise<[Host, Host]> {
  if (order.from === order.to) {
    throw new TrustError(
      'migration.same_host',
      'invalid',
      `cannot migrate ${order.vm}: --from and --to are both ${order.from}`,
    );
  }
  const pair: [Host, Host] = [await requireHost(order.from, context), await requireHost(order.to, context)];
  for (const host of pair) {
    const lacking = (['libvirt', 'migration'] as const).filter(
      (service) =>
        host.observed?.credentials.find((credential) => credential.service === service)?.generation == null,
    );
    if (lacking.length > 0) {
      throw new TrustError(
        'migration.host_not_secured',
        'conflict',
        `cannot migrate ${order.vm} over TLS: host ${host.name} has no proven certificate for ${lacking.join(' and ')} (${host.state})`,
        {
          hint: `bring it right first: virt-trust host provision ${host.name}`,
        },
      );
    }
  }
  for (const host of pair) assertNotRevoked(order, host, context);
  return pair;
}

/** Of no certificate (RFC 5280 §4.1.2.2: serial numbers are positive), where the host did not say which it serves. */
const NO_SERIAL = '00';

/** SECURITY: QEMU's source side looks at no CRL, so it is looked at here, and by the source's agent once more. */
function assertNotRevoked(order: MigrateVm, host: Host, context: HostsContext): void {
  const found = (['libvirt', 'migration'] as const).flatMap((service) => {
    const serial = servedBy(host, service);
    const revocation = serial === null ? null : context.revocations.revocationOf(serial);
    return revocation === null ? [] : [{ what: `its certificate for ${service}`, ...revocation }];
  })[0];
  const { revoked } = host;
  const why = revoked === undefined ? found : { what: 'it', ...revoked };
  if (why === undefined) return;
  throw new TrustError(
    'migration.host_revoked',
    'denied',
    `cannot migrate ${order.vm} from ${order.from} to ${order.to}: host ${host.name} is not to be trusted: ${why.what} was revoked for ${why.reason} at ${formatInstant(why.at)}`,
    {
      hint: `once the host is trustworthy again, give it new certificates: virt-trust host provision ${host.name}`,
    },
  );
}

interface Pair {
  readonly order: MigrateVm;
  readonly from: Host;
  readonly to: Host;
  readonly addresses: MigrationAddresses;
}

async function migrationOrder(
  { order, from, to, addresses }: Pair,
  context: HostsContext,
  job: JobContext,
): Promise<MigrationOrder> {
  const { libvirtAddress, migrationAddress, listenAddress, tlsDestination } = addresses;
  const { organization } = await context.settingsOf(from);
  const foundTrust = (to.inventory?.tlsFiles ?? []).filter(
    (file) => file.role === 'ca' && file.service === 'libvirt' && !file.ours && file.pem !== null,
  );
  const servesFound =
    to.observed?.credentials.some(
      (credential) => credential.service === 'libvirt' && credential.identity === 'found',
    ) === true;
  return {
    id: job.id,
    vm: order.vm,
    mode: 'tls',
    from: from.name,
    to: to.name,
    source: { kind: 'local' },
    destination: { kind: 'tls', address: libvirtAddress, port: LIBVIRT_TLS_PORT },
    peerAgent: false,
    stream: { address: migrationAddress, listenAddress, tlsDestination },
    tls: {
      migrationSerialNumber: servedBy(to, 'migration') ?? NO_SERIAL,
      controlBundle: [
        await context.certificates.bundle('control'),
        ...(servesFound ? foundTrust.map((file) => file.pem) : []),
      ].join('\n'),
      controlCrl: await context.revocations.crlForHosts('control'),
      subject: { commonName: `${MIGRATION_CLIENT_PREFIX}${job.id}`.slice(0, 64), organization },
    },
    options: { ...DEFAULT_OPTIONS, copyDisks: [], bandwidthMiB: order.bandwidthMiB ?? 0 },
    doubtSeconds: 60,
  };
}

const LIBVIRT_TLS_PORT = 16514;
const DEFAULT_OPTIONS = {
  live: true,
  offline: false,
  persistent: false,
  undefineSource: false,
  copyStorage: 'none',
  postCopy: false,
  parallel: 0,
  compression: 'none',
  autoConverge: false,
  downtimeMs: 0,
  timeoutSeconds: 0,
  timeoutAction: 'abort',
  flags: 0,
} as const satisfies Omit<MigrationOrder['options'], 'bandwidthMiB' | 'copyDisks'>;

type Agent = Awaited<ReturnType<HostsContext['channels']['of']>>['agent'];

async function follow(
  order: MigrateVm,
  agent: Agent,
  job: JobContext,
  report: (detail: string) => void,
): Promise<MigrationStatus> {
  const onAbort = () => {
    // A manager that only stops leaves the migration to the agent and follows it again after its start.
    if (job.signal.reason instanceof Cancelled)
      void agent.call(cancelMigration, { params: { id: job.id } }).catch(() => {});
  };
  job.signal.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      if (job.signal.aborted && !(job.signal.reason instanceof Cancelled)) throw job.signal.reason;
      const status = await agent.call(getMigration, { params: { id: job.id }, query: { wait: 10 } });
      job.migration(status);
      if (status.progress !== null) job.progress(status.progress);
      switch (status.phase) {
        case 'done':
          report(describeProof(status));
          return status;
        case 'failed':
        case 'operator-needed':
          throw new TrustError(
            'migration.failed',
            'failed',
            `cannot migrate ${order.vm} from ${order.from} to ${order.to}: ${status.error?.message ?? 'libvirt did not say why'}`,
            {
              ...(status.error?.hint ? { hint: status.error.hint } : {}),
            },
          );
        case 'cancelled':
          throw new TrustError(
            'migration.cancelled',
            'failed',
            `cannot migrate ${order.vm}: it was cancelled; the VM runs on ${order.from}`,
          );
        case 'requested':
        case 'running':
          if (status.progress !== null) report(`${status.progress.percent.toFixed(0)} %`);
      }
    }
  } finally {
    job.signal.removeEventListener('abort', onAbort);
  }
}

function describeProof(status: MigrationStatus): string {
  const { proof } = status;
  if (proof === null || proof.tlsCreds === '')
    return "done; it was over before QEMU's TLS objects could be seen";
  const { connection } = proof;
  const way =
    connection === undefined
      ? ''
      : ` from ${connection.from} (${connection.interface ?? 'no interface'}) to ${connection.to}`;
  return `QEMU's stream ran${way} with ${proof.tlsCreds}, verifying ${proof.tlsHostname || 'the host of the URI'}`;
}

function conclusion(order: MigrateVm, status: MigrationStatus): string {
  return `${order.vm} runs on ${order.to}; ${describeProof(status)}`;
}
