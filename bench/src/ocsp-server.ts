import { randomBytes } from 'node:crypto';
import { silentLog } from '@virt-trust/base/log.ts';
import { composeIssuance } from '@virt-trust/manager/issuance-domain.ts';
import { startManager } from '@virt-trust/manager/manager.ts';
import { composeStatus } from '@virt-trust/manager/status-domain.ts';
import { SqliteRevocationStore } from '@virt-trust/manager/store/revocation-store.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodeCertId, issuerHashes } from '@virt-trust/pki/ocsp-cert-id.ts';
import { encodeOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';

/**
 * Its own process: a manager that issued certificates and publishes their status; prints where, and requests for them
 * without nonce and with one each, in base64.
 */
const [stateDirectory = '', count = '0'] = process.argv.slice(2);
const requests: string[] = [];
const nonceRequests: string[] = [];
const manager = await startManager(
  {
    stateDirectory,
    version: 'bench',
    listen: { address: '127.0.0.1', port: 0 },
    statusListen: { address: '127.0.0.1', port: 0 },
    log: silentLog,
  },
  [
    async (core) => {
      const issuing = await composeIssuance(core, {
        declaredNames: { find: async () => null },
        managerNames: () => ({ dns: ['manager.example'], addresses: [] }),
        constraints: { dns: [], subnets: [] },
        renewalOf: async () => null,
      });
      const { authorities, issuance } = issuing;
      const { organization, issuing: issuer } = authorities.byPurpose('control');
      const hashes = issuerHashes(issuer, 'sha1');
      for (let index = 0; index < Number(count); index++) {
        const commonName = `client ${index}`;
        const privateKey = await generatePrivateKey('ecdsa-p256-sha256');
        const subject = encodeName({ organization, commonName });
        const der = createCertificationRequest({ privateKey, subject, sans: [] });
        const csr = encodePem('CERTIFICATE REQUEST', der);
        const { serialNumber } = await issuance.issueClient({ csr, commonName, minutes: 60, actor: 'bench' });
        const certId = encodeCertId(hashes, serialNumber);
        requests.push(Buffer.from(encodeOcspRequest([certId])).toString('base64'));
        for (let copy = 0; copy < 4; copy++) {
          nonceRequests.push(Buffer.from(encodeOcspRequest([certId], randomBytes(16))).toString('base64'));
        }
      }
      const revocations = new SqliteRevocationStore(core.database, core.clock);
      const status = composeStatus(core, issuing, {
        statusOf: (authority, serialNumber) => revocations.status(authority, serialNumber),
        isHeld: () => false,
        crlOf: () => null,
        onChange: () => undefined,
      });
      return { handlers: issuing.handlers, status, close: () => issuing.close() };
    },
  ],
);
process.once('SIGTERM', () => void manager.close().then(() => process.exit(0)));
console.log(JSON.stringify({ url: manager.statusUrl, requests, nonceRequests }));
