import { TrustError } from '@virt-trust/base/error.ts';
import { isOver } from '@virt-trust/cli/job-watch.ts';
import type { ManagerClient } from '@virt-trust/cli/manager-client.ts';
import { addHost, getHost, listJobs } from '@virt-trust/contract/manager/operations.ts';
import type { HostDetail } from '@virt-trust/contract/model/manager.ts';
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
        showJob(client, job, steps, signal),
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
  const fingerprint = await host.sshFingerprint();
  return steps.under(`Add ${host.name}`, async () => {
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
    for (const line of proofLines(detail)) steps.line(line);
    return detail;
  });
}

/** One line for each service with the handshakes that prove it; throws `start.unproven` where one lacks its proof. */
export function proofLines(host: HostDetail): string[] {
  return SERVICES.map((service) => {
    const one = host.observed?.credentials.find((credential) => credential.service === service);
    if (one?.phase !== 'settled' || one.identity !== 'ours' || one.proofs.length === 0)
      throw new TrustError(
        'start.unproven',
        'failed',
        `cannot show that ${service} of ${host.name} is secured: it is ${one?.phase ?? 'absent'} with ${one?.proofs.length ?? 0} proofs`,
        { hint: `see: ./virt-trust host show ${host.name}` },
      );
    const wrong = one.proofs.find((proof) => proof.servedPin !== null && proof.servedPin !== one.pin);
    if (wrong !== undefined)
      throw new TrustError(
        'start.unproven',
        'failed',
        `cannot show that ${service} of ${host.name} is secured: ${wrong.target} served another certificate`,
      );
    const seen = one.proofs.map((proof) => `${proof.target}: ${proof.detail}`);
    return `  ${service.padEnd(9)} ${[...new Set(seen)].join('; ')}`;
  });
}
