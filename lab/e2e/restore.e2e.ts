import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { listAudit, verifyAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import { issueCertificate, listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { collectHost, provisionHost, rollHostKey } from '@virt-trust/contract/manager/host-operations.ts';
import { listCrls, revokeCertificate } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { getManagerIdentity, rollManagerKey } from '@virt-trust/contract/manager/self-operations.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { type Crl, parseCrl, parseCrls } from '@virt-trust/pki/crl.ts';
import { parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodeCertId, issuerHashes } from '@virt-trust/pki/ocsp-cert-id.ts';
import { encodeOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import { parseOcspResponse } from '@virt-trust/pki/ocsp-response.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { canBootLab } from '../src/capability.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';
import { programPath } from './program.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const run = promisify(execFile);
const HOSTS = ['host-a', 'host-b'];
const PATIENCE = 180_000;

describe('a manager that is lost and restored from a backup', { skip }, () => {
  let fleet: Fleet;
  let directory: string | undefined;
  let program: string;
  let stateDirectory: string;
  const file = (name: string) => join(directory ?? assert.fail(), name);

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-restore-${process.pid}`, hosts: HOSTS });
    directory = await mkdtemp(join(tmpdir(), 'vt-restore-'));
    stateDirectory = join(fleet.stateDirectory, 'manager');
    program = await programPath();
    await Promise.all(HOSTS.map((name) => fleet.add(name)));
  });
  after(async () => {
    await fleet?.[Symbol.asyncDispose]();
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
  });

  /** The manager's disk is gone, and a backup is restored to a new one. */
  async function loseAndRestore(backup: string): Promise<{ epoch: number }> {
    await fleet.stopManager();
    await rm(stateDirectory, { recursive: true });
    const words = ['restore', '--from', backup, '--state-directory', stateDirectory, '--json'];
    const { stdout } = await run(program, [...words, '--seal-key', file('seal.key')]);
    await fleet.startManager();
    return JSON.parse(stdout) as { epoch: number };
  }

  const collected = (name: string): Promise<HostDetail> =>
    until(`reach ${name}`, PATIENCE, async () => {
      // A channel that is dialled anew, because keys were put right, is down for a moment.
      const host = await fleet.client.call(collectHost, { params: { name } }).catch(() => undefined);
      return host?.channel === 'up' ? host : undefined;
    });
  const renew = async (name: string) =>
    fleet.finished(await fleet.client.call(provisionHost, { params: { name }, body: { renew: true } }));

  /** Certificates that nobody will ever install: what counts is that they were issued. */
  async function issueSome(name: string, count: number): Promise<void> {
    const { declared } = await fleet.show(name);
    const names = [...declared.names.dns, ...declared.names.addresses];
    for (let made = 0; made < count; made++) {
      const csr = createCertificationRequest({
        privateKey: await generatePrivateKey('ecdsa-p256-sha256'),
        subject: encodeName({ organization: 'virt-trust', commonName: name }),
        sans: names.map(parseHostName),
      });
      await fleet.client.call(issueCertificate, {
        body: { host: name, service: 'libvirt', csr: encodePem('CERTIFICATE REQUEST', csr) },
      });
    }
  }

  const serialsServed = async (name: string) =>
    (await collected(name)).observed?.credentials.map(({ serialNumber }) => serialNumber ?? '') ?? [];

  it('1. is backed up while it serves, without its seal key', async () => {
    const words = ['backup', '--state-directory', stateDirectory, '--to', file('backup'), '--json'];
    const { stdout } = await run(program, [...words, '--seal-key-to', file('seal.key')]);
    assert.ok((JSON.parse(stdout) as { bytes: number }).bytes > 0);
    await assert.rejects(run(program, words), /there already/);
  });

  const servedBefore = new Map<string, string[]>();
  /** Revoked after the backup, with the reason; the backup knows the first alone. */
  const revoked = new Map<string, RevocationReason>();
  const numbersBefore = new Map<string, bigint>();

  /** The newest of the CRLs that a host's libvirtd reads. */
  async function crlOn(name: string): Promise<Crl> {
    const crl = parseCrls(await fleet.host(name).readFile('/etc/pki/CA/cacrl.pem')).at(-1);
    assert.ok(crl);
    return crl;
  }
  const numberOf = (crl: Crl) => crl.extensions.crlNumber ?? 0n;
  const serialsOf = (crl: Crl) => [...crl.entries].map(({ serialNumber }): string => serialNumber);

  async function ocspStatus(serial: string): Promise<string> {
    const [issuing] = parseCertificates(await fleet.host('host-a').readFile('/etc/pki/CA/cacert.pem'));
    assert.ok(issuing);
    const certId = encodeCertId(issuerHashes(issuing, 'sha256'), parseSerialNumber(serial));
    const response = await fetch(`${fleet.url}/ocsp`, {
      method: 'POST',
      headers: { 'content-type': 'application/ocsp-request' },
      body: Buffer.from(encodeOcspRequest([certId])),
    });
    const [single] = parseOcspResponse(Buffer.from(await response.arrayBuffer())).responses;
    return single?.status.kind ?? 'none';
  }

  /** Wherever somebody asks: on the hosts, in what is published, and of the manager itself. */
  async function assertStillRevoked(): Promise<void> {
    const crls = await until('bring CRLs to all hosts', PATIENCE, async () => {
      const { items, held } = await fleet.client.call(listCrls, {});
      return held === null && items.every(({ hosts }) => hosts.current === HOSTS.length) ? items : undefined;
    });
    const control = crls.find(({ purpose }) => purpose === 'control');
    assert.ok(control?.pem);
    const [own] = parseCrls(control.pem);
    const published = await fetch(`${fleet.url}/crl/${control.authority}.crl`);
    assert.equal(published.status, 200);
    const ofAll = parseCrl(new Uint8Array(await published.arrayBuffer()));
    for (const serial of revoked.keys()) {
      assert.ok(own && serialsOf(own).includes(serial));
      assert.ok(serialsOf(ofAll).includes(serial));
      assert.equal(await ocspStatus(serial), 'revoked');
      await assert.rejects(
        fleet.client.call(revokeCertificate, { params: { serial }, body: { reason: 'keyCompromise' } }),
        { code: 'certificate.revoked' },
      );
    }
    for (const name of HOSTS) {
      const crl = await crlOn(name);
      for (const serial of revoked.keys()) assert.ok(serialsOf(crl).includes(serial), `${name}: ${serial}`);
      assert.ok(numberOf(crl) > (numbersBefore.get(name) ?? 0n));
    }
  }

  it('2. goes on: its key and those of its agents are rolled, and 100 certificates issued', async () => {
    const pin = (await fleet.client.call(getManagerIdentity, {})).current;
    await fleet.finished(await fleet.client.call(rollManagerKey, {}));
    assert.notEqual((await fleet.client.call(getManagerIdentity, {})).current, pin);
    for (const name of HOSTS)
      await fleet.finished(await fleet.client.call(rollHostKey, { params: { name } }));
    await Promise.all(HOSTS.map((name) => issueSome(name, 50)));
    const { observed } = await collected('host-a');
    const known = observed?.credentials.find(({ service }) => service === 'libvirt')?.serialNumber;
    await Promise.all(HOSTS.map(renew));
    for (const name of HOSTS) servedBefore.set(name, await serialsServed(name));
    const { items } = await fleet.client.call(listCertificates, { query: { host: 'host-b', limit: 1000 } });
    const served = servedBefore.get('host-b') ?? [];
    const unused = items.find(
      ({ serialNumber, service }) => service === 'libvirt' && !served.includes(serialNumber),
    );
    assert.ok(typeof known === 'string' && unused !== undefined);
    revoked.set(known, 'keyCompromise').set(unused.serialNumber, 'privilegeWithdrawn');
    for (const [serial, reason] of revoked)
      await fleet.finished(
        await fleet.client.call(revokeCertificate, { params: { serial }, body: { reason } }),
      );
    for (const name of HOSTS) numbersBefore.set(name, numberOf(await crlOn(name)));
  });

  it('3. gets in to its hosts again, puts all pins right, and knows the certificates that they serve', async () => {
    const then = await fleet.client.call(getManagerIdentity, {});
    const pinsThen = await Promise.all(HOSTS.map(async (name) => (await fleet.show(name)).agentPins));
    const { epoch } = await loseAndRestore(file('backup'));
    assert.ok(epoch > 1);
    for (const name of HOSTS) await collected(name);
    const identity = await until('let the former key go', PATIENCE, async () => {
      const now = await fleet.client.call(getManagerIdentity, {});
      return now.current === then.current && now.previous === null ? now : undefined;
    });
    assert.ok(identity.next !== null && identity.next !== then.next);
    for (const [index, name] of HOSTS.entries()) {
      assert.deepEqual((await fleet.show(name)).agentPins, pinsThen[index]);
      // The manager lets it go before it tells its hosts.
      await until(`have ${name} know the two keys of the manager`, PATIENCE, async () => {
        const status = await fleet.host(name).run(['virt-trust', 'agent', 'status', '--json']);
        const { managers } = JSON.parse(status) as { managers: string[] };
        return managers.join() === [identity.current, identity.next].join() ? true : undefined;
      });
      await until(`adopt what ${name} serves`, PATIENCE, async () => {
        const { items } = await fleet.client.call(listCertificates, { query: { host: name, limit: 1000 } });
        const known = new Set(items.map(({ serialNumber }) => serialNumber));
        return servedBefore.get(name)?.every((serial) => known.has(serial)) ? true : undefined;
      });
    }
    const { items } = await fleet.client.call(listAudit, { query: { limit: 1000 } });
    const adopted = items.filter(
      ({ action, outcome }) => action === 'certificate.adopt' && outcome === 'done',
    );
    assert.deepEqual(
      adopted.map(({ subject }) => subject).toSorted(),
      [...servedBefore.values()].flat().toSorted(),
    );
  });

  it('4. lets nobody return who was revoked after the backup, known to it or not: on hosts, in CRLs, by OCSP', async () => {
    await assertStillRevoked();
    const { items } = await fleet.client.call(listCertificates, { query: { host: 'host-a', limit: 1000 } });
    const [serial, reason] = [...revoked][0] ?? [];
    const known = items.find(({ serialNumber }) => serialNumber === serial);
    assert.equal(known?.revocation?.reason, reason);
    const { items: audit } = await fleet.client.call(listAudit, { query: { limit: 1000 } });
    for (const [subject, why] of revoked) {
      const entry = audit.find((one) => one.action === 'certificate.revoke' && one.subject === subject);
      assert.match(entry?.detail ?? '', new RegExp(`^${why}: learnt from CRL number`));
    }
    assert.ok(audit.some(({ action }) => action === 'crl.resume'));
  });

  it('5. drives them: each makes new keys and is proven, and the audit log holds over the restore', async () => {
    const jobs = await Promise.all(HOSTS.map(renew));
    for (const job of jobs) assert.equal(job.state, 'done');
    for (const name of HOSTS) {
      assert.equal((await fleet.show(name)).state, 'secured');
      assert.notDeepEqual(await serialsServed(name), servedBefore.get(name));
    }
    assert.equal((await fleet.client.call(verifyAudit, {})).intact, true);
    await fleet.finished(await fleet.client.call(rollManagerKey, {}));
  });

  it('6. restored from before two rollovers says what to do, and host add over SSH gives it its hosts back', async () => {
    await fleet.finished(
      await fleet.client.call(rollHostKey, { params: { name: 'host-b' }, query: { compromised: true } }),
    );
    const { epoch } = await loseAndRestore(file('backup'));
    for (const name of HOSTS)
      await until(`say why ${name} is away`, PATIENCE, async () => {
        const { reason } = await fleet.show(name);
        return reason?.includes('know each other') ? reason : undefined;
      });
    await assert.rejects(fleet.client.call(collectHost, { params: { name: 'host-b' } }), (error: Error) => {
      assert.match(`${error.message} ${(error as { hint?: string }).hint}`, /virt-trust host add/);
      return true;
    });
    for (const name of HOSTS) {
      await fleet.add(name);
      await collected(name);
      assert.equal((await fleet.show(name)).state, 'secured');
      assert.equal((await collected(name)).observed?.epoch, epoch);
    }
    await assertStillRevoked();
    await Promise.all(HOSTS.map(renew));
    assert.equal((await fleet.client.call(verifyAudit, {})).intact, true);
  });
});
