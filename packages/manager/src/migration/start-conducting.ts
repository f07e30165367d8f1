import { MINUTE } from '@virt-trust/base/instant.ts';
import { createMigration, startMigration } from '@virt-trust/contract/agent/migration-operations.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import type { HostChannel } from '../hosts/channels.ts';
import type { Host } from '../hosts/host.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Ahead } from './clocks.ts';
import type { MigrationContext } from './context.ts';
import { giveGrants } from './grants.ts';

/** A migration that is about to be handed to its conducting agent. */
export interface Conducting {
  readonly order: MigrationOrder;
  readonly conductor: Host;
  readonly channel: HostChannel;
  /** Source and destination where both take part by their agents; else empty. */
  readonly pair: readonly Host[];
  readonly ahead: Ahead;
  /** The destination's address that was chosen for the migration. */
  readonly migrationAddress: string | null;
}

/** Has the conducting agent prepare, gives both agents leave to talk and the conductor its certificate, and starts. */
export async function startConducting(
  { order, conductor, channel, pair, ahead, migrationAddress }: Conducting,
  context: MigrationContext,
  job: JobContext,
): Promise<void> {
  const { signal } = job;
  const { agent } = channel;
  const { csr, vm } = await job.step('Prepare', async (report) => {
    const prepared = await agent.call(createMigration, { body: order }, { signal });
    report(`${order.vm} is ${prepared.vm.uuid} on ${order.from}`);
    return prepared;
  });
  const [source, destination] = pair;
  if (source !== undefined && destination !== undefined)
    await job.step('Let both agents talk', async (report) => {
      const minutes = await context.settings.value('migration.grant_minutes', subjectOf(conductor));
      const until = context.clock.now() + minutes * MINUTE;
      const notAfter = { source: until + ahead.source, destination: until + ahead.destination };
      await giveGrants({ source, destination }, { order, vm, migrationAddress, notAfter }, context, signal);
      report(`for ${minutes} minutes, or until the migration is over`);
    });
  const certificate =
    csr === null ? null : await clientCertificate(csr, { order, conductor, ahead }, context, job);
  await job.step('Start', async () => {
    // What was started is never started anew: from here on the agent is asked how it stands.
    await job.remember('started', true);
    await agent.call(startMigration, { params: { id: order.id }, body: { certificate } }, { signal });
  });
}

async function clientCertificate(
  csrPem: string,
  { order, conductor, ahead }: Pick<Conducting, 'order' | 'conductor' | 'ahead'>,
  context: MigrationContext,
  job: JobContext,
): Promise<string> {
  return await job.step('Make a client certificate for this migration', async (report) => {
    const { clientCertificateMinutes } = await context.settingsOf(conductor);
    const { certificatePem } = await context.certificates.issueMigrationClient({
      host: conductor,
      commonName: order.tls?.subject.commonName ?? '',
      csrPem,
      minutes: clientCertificateMinutes + Math.ceil(ahead.destination / MINUTE),
      actor: job.actor,
    });
    report(`valid for ${clientCertificateMinutes} minutes`);
    return certificatePem;
  });
}

function subjectOf({ name, cluster }: Host): { host: string; cluster: string } {
  return { host: name, cluster };
}
