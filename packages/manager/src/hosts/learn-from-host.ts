import { getInventory, getObservedState } from '@virt-trust/contract/agent/operations.ts';
import type { CertificateAdoption } from '../issuance/certificate-adoption.ts';
import { declaredHostOf } from './declared-host.ts';
import type { AtChannelUp } from './greeting.ts';
import type { HostsContext } from './ports.ts';
import { relearn } from './relearning.ts';

/** Looks at a host whose channel came up, and learns what of it a store that was restored does not know. */
export function learnFromHost(
  adoption: Pick<CertificateAdoption, 'isKnown' | 'adopt'>,
  context: HostsContext,
): AtChannelUp {
  return async (host, channel, signal) => {
    const declared = declaredHostOf(host);
    if (declared === null) return;
    const observed = await channel.agent.call(getObservedState, {}, { signal });
    await relearn(host, observed, channel, context, signal);
    const unknown = [];
    for (const { service, identity, serialNumber } of observed.credentials) {
      if (identity !== 'ours' || serialNumber === null) continue;
      if (!(await adoption.isKnown(serialNumber))) unknown.push(service);
    }
    if (unknown.length === 0) return;
    const { tlsFiles } = await channel.agent.call(getInventory, {}, { signal });
    for (const file of tlsFiles) {
      if (file.role !== 'server-certificate' || file.pem === null || !unknown.includes(file.service))
        continue;
      const outcome = await adoption.adopt({ host: declared, service: file.service, pem: file.pem });
      if (outcome.kind === 'known') continue;
      context.log.warn(
        { host: host.name, service: file.service, ...outcome },
        'serves a certificate that the store does not know',
      );
    }
  };
}
