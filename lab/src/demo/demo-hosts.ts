import { systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { isOver } from '@virt-trust/cli/job-watch.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import { formatTime } from '@virt-trust/cli/output.ts';
import { addHost, getHost } from '@virt-trust/contract/manager/host-operations.ts';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { Host } from '../host.ts';
import type { Lab } from '../lab.ts';
import { showJob } from './job-steps.ts';
import type { Steps } from './steps.ts';

/** Waits for what the manager took up again that was under way when the last start was stopped; its outcome is not ours. */
export async function finishEarlierJobs(
  client: ManagerClient,
  steps: Steps,
  signal: AbortSignal,
): Promise<void> {
  const { items } = await client.call(listJobs, { query: { limit: 100 } }, { signal });
  for (const job of items.filter((one) => !isOver(one)).toReversed()) {
    await steps
      .under(`Finish what was under way: ${job.kind} ${job.subject}`, () =>
        showJob(client, job, steps, signal, performance.timeOrigin),
      )
      .catch((error: unknown) => {
        if (signal.aborted) throw error;
      });
  }
}

/** Adds a host of the lab as an administrator would, over real SSH, and shows what was proven on it. */
export async function addLabHost(
  client: ManagerClient,
  lab: Lab,
  host: Host,
  steps: Steps,
  signal: AbortSignal,
): Promise<HostDetail> {
  const began = systemClock.now();
  const fingerprint = await host.sshFingerprint();
  return steps.under(`Add ${host.name} over SSH`, async () => {
    const job = await client.call(
      addHost,
      {
        body: {
          name: host.name,
          ssh: { destination: host.sshTarget, identityFile: lab.sshKey },
          fingerprint,
        },
      },
      { signal },
    );
    await showJob(client, job, steps, signal);
    const detail = await client.call(getHost, { params: { name: host.name } }, { signal });
    for (const line of proofLines(detail, began)) steps.line(line);
    for (const line of networkLines(detail)) steps.line(line);
    return detail;
  });
}

/**
 * The handshakes that prove each service, alike ones in one line, with their time if they were made before `since`;
 * throws `start.unproven` where a service lacks its proof.
 */
export function proofLines(host: HostDetail, since: number): string[] {
  return SERVICES.flatMap((service) => {
    const one = host.observed?.credentials.find((credential) => credential.service === service);
    if (one?.phase !== 'settled' || one.identity !== 'ours' || one.proofs.length === 0)
      throw unproven(
        host,
        service,
        `it is ${one?.phase ?? 'absent'}, with ${one?.proofs.length ?? 0} proofs`,
      );
    const wrong = one.proofs.find((proof) => proof.servedPin !== null && proof.servedPin !== one.pin);
    if (wrong !== undefined) throw unproven(host, service, `${wrong.target} served another certificate`);
    if (service === 'libvirt' && !one.proofs.some((proof) => proof.by === 'manager'))
      throw unproven(host, service, 'the manager did not get through to it');
    const alike = Map.groupBy(one.proofs, ({ by, detail }) => `${by.padEnd(7)}  ${detail}`);
    return [...alike].map(([seen, proofs], index) => {
      const targets = proofs.map((proof) => proof.target).join(', ');
      const oldest = Math.min(...proofs.map((proof) => proof.at));
      const when = oldest < since ? ` (at ${formatTime(oldest)})` : '';
      return `  ${(index === 0 ? service : '').padEnd(9)}  ${seen}: ${targets}${when}`;
    });
  });
}

/** Which services are on which interface, each with its first address. */
export function networkLines(host: Pick<HostDetail, 'endpoints'>): string[] {
  const groups = [...Map.groupBy(host.endpoints, (endpoint) => endpoint.interface)];
  return groups.map(([name, endpoints], index) => {
    const services = endpoints.map(({ service }) => service).join(', ');
    const address = endpoints[0]?.names.addresses[0] ?? endpoints[0]?.names.dns[0];
    return `  ${(index === 0 ? 'networks' : '').padEnd(9)}  ${name.padEnd(7)}  ${address}: ${services}`;
  });
}

/**
 * Has VMs migrate over a network of their own, and consoles be on theirs, for those with a password alone. Only the first start says so: what somebody
 * has set since then stays.
 */
export async function giveRoles(
  client: ManagerClient,
  lab: Lab,
  steps: Steps,
  signal: AbortSignal,
): Promise<void> {
  await steps.run(
    'Give networks their roles',
    async ({ conclude }) => {
      for (const role of ['migration', 'display'] as const) {
        const order = { params: { setting: `role.${role}` }, query: {}, body: { value: lab.rangesOf(role) } };
        await client.call(putSetting, order, { signal });
      }
      const consoles = { params: { setting: 'console.listen' }, query: {}, body: { value: 'password' } };
      await client.call(putSetting, consoles, { signal });
      const ranges = (['migration', 'display'] as const).map((role) => `${role} on ${lab.rangesOf(role)[0]}`);
      conclude(`${ranges.join(', ')}, consoles with a password for each visit`);
    },
    signal,
  );
}

function unproven(host: HostDetail, service: string, reason: string): TrustError {
  return new TrustError(
    'start.unproven',
    'failed',
    `cannot show that ${service} of ${host.name} is secured: ${reason}`,
    { hint: `see: ./virt-trust host show ${host.name}` },
  );
}
