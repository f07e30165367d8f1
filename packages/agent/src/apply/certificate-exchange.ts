import type {
  CertificateRequest,
  IssuedCertificate,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';
import type { Workshop } from '../served/workshop.ts';
import type { Journal, Transition } from '../sets/apply-state.ts';

/** The requests of an application that wait for the manager. */
export async function certificateRequestsOf(
  workshop: Workshop,
  journal: Journal | undefined,
): Promise<CertificateRequest[]> {
  const requests: CertificateRequest[] = [];
  for (const { service, to } of await asking(workshop, journal)) {
    const csr = await workshop.staging.readRequest(service, to);
    if (csr !== undefined) requests.push({ service, generation: to, csr });
  }
  return requests;
}

/** Takes certificates for the requests; one that was given before, or for an earlier request, is passed over. */
export async function takeCertificates(
  workshop: Workshop,
  journal: Journal | undefined,
  certificates: readonly IssuedCertificate[],
): Promise<void> {
  const waiting = await asking(workshop, journal);
  for (const { service, generation, certificate } of certificates) {
    const transition = waiting.find((one) => one.service === service && one.to === generation);
    const credential = journal?.desired?.credentials.find((one) => one.service === service);
    if (transition === undefined || credential === undefined) continue;
    await workshop.staging.putCertificate(credential, generation, certificate);
  }
}

/** Takes the manager's verdicts on libvirt; those on another generation than the one that waits are passed over. */
export async function takeVerdicts(
  workshop: Workshop,
  journal: Journal | undefined,
  verdicts: readonly ProofVerdict[],
): Promise<void> {
  for (const { service, generation, verdict } of verdicts) {
    const waits = journal?.transitions.some((one) => one.service === service && one.to === generation);
    if (service !== 'libvirt' || waits !== true) continue;
    await workshop.verdict.write({ generation, ...verdict });
  }
}

async function asking(workshop: Workshop, journal: Journal | undefined): Promise<Transition[]> {
  if (journal === undefined || journal.steps[journal.at] !== 'await-certificates') return [];
  const found: Transition[] = [];
  for (const one of journal.transitions)
    if (one.request && !(await workshop.staging.hasCertificate(one.service, one.to))) found.push(one);
  return found;
}
