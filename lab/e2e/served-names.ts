import { X509Certificate } from 'node:crypto';
import { getCertificate } from '@virt-trust/contract/manager/certificate-operations.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import type { Fleet } from './fleet.ts';
import { namesOf } from './viewer.ts';

const PATIENCE = 120_000;

/** What a service of a host serves, by its agent and by the manager's record of that certificate. */
export interface ServedNames {
  readonly serialNumber: string;
  readonly generation: number;
  readonly names: readonly string[];
}

/** What is proven and served now; undefined while the service is not at rest. */
export async function settledNames(
  fleet: Fleet,
  host: string,
  service: Service,
): Promise<ServedNames | undefined> {
  const { observed } = await fleet.show(host);
  const one = observed?.credentials.find((credential) => credential.service === service);
  if (one?.phase !== 'settled' || one.serialNumber === null || one.generation === null) return undefined;
  const { names } = await fleet.client.call(getCertificate, { params: { serial: one.serialNumber } });
  return {
    serialNumber: one.serialNumber,
    generation: one.generation,
    names: [...names.dns, ...names.addresses].sort(),
  };
}

/** Waits until a service of a host is at rest, which an application of anything on it interrupts. */
export function untilSettled(fleet: Fleet, host: string, service: Service): Promise<ServedNames> {
  return until(`see ${service} of ${host} at rest`, PATIENCE, () => settledNames(fleet, host, service));
}

/** Waits until a service of a host is proven with exactly these names. */
export function untilNames(
  fleet: Fleet,
  host: string,
  service: Service,
  names: readonly string[],
  patience = PATIENCE,
): Promise<ServedNames> {
  const wanted = [...names].sort().join();
  return until(`see ${service} of ${host} with ${wanted}`, patience, async () => {
    const seen = await settledNames(fleet, host, service);
    return seen?.names.join() === wanted ? seen : undefined;
  });
}

/** The names in a certificate file on a host, as OpenSSL reads them. */
export async function namesInFile(host: Host, path: string): Promise<string[]> {
  return namesOf(new X509Certificate(await host.readFile(path)).subjectAltName ?? '');
}
