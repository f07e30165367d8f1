import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';

const ORGANIZATION = 'virt-trust';

/** The names of the host with that number; both ends of the benchmark know them. */
export function hostNames(index: number): { dns: string[]; addresses: string[] } {
  return { dns: [`host${index}.example`], addresses: [`10.1.${index >> 8}.${index & 255}`] };
}

/** One request for each host, each with a key of its own. */
export async function makeRequests(count: number): Promise<string[]> {
  const requests: string[] = [];
  for (let index = 0; index < count; index++) {
    const { dns, addresses } = hostNames(index);
    const request = createCertificationRequest({
      privateKey: await generatePrivateKey('ecdsa-p256-sha256'),
      subject: encodeName({ organization: ORGANIZATION, commonName: `host${index}` }),
      sans: [
        ...dns.map((value) => ({ kind: 'dns' as const, value })),
        ...addresses.map((value) => ({ kind: 'ip' as const, value })),
      ],
    });
    requests.push(encodePem('CERTIFICATE REQUEST', request));
  }
  return requests;
}
