import { systemClock } from '@virt-trust/base/clock.ts';
import { openStore } from '../store/open-store.ts';
import type { CertificateRepository } from './certificate-record.ts';
import { issuanceOn, requestPem } from './fixtures.ts';

/** A process for a test to kill: it stops for good once a certificate is recorded, before anything is signed. */
const [stateDirectory = ''] = process.argv.slice(2);
const { database } = openStore(stateDirectory, systemClock);
const { issuance } = await issuanceOn(database, systemClock, {
  wrap: (certificates): CertificateRepository => ({
    find: (serialNumber) => certificates.find(serialNumber),
    list: (filter) => certificates.list(filter),
    commit: async (changes) => {
      await certificates.commit(changes);
      process.stdout.write('recorded\n');
      return new Promise(() => {});
    },
  }),
});
// Keeps the process until it is killed.
setInterval(() => {}, 1 << 30);
await issuance.issueForHost({ host: 'kvm1', service: 'libvirt', csr: await requestPem(), actor: 'test' });
