import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { makeTestCertificate, type TestIdentity } from '@virt-trust/libvirt/test-certificates.ts';
import { prepareIssuer } from '@virt-trust/pki/certificate-issue.ts';
import { issueCrl } from '@virt-trust/pki/crl-issue.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { Lab } from '../src/lab.ts';
import { startVm } from '../src/vm.ts';
import { programPath } from './program.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

interface Answer {
  readonly code: number;
  readonly outcome: string;
  readonly side: string | null;
  readonly reason: string | null;
  readonly hint: string | null;
}

describe('virt-trust probe against the real libvirtd and QEMU, with virsh as witness', { skip }, () => {
  let lab: Lab;
  let host: Host;
  let program: string;
  let directory: string;
  let root: TestIdentity;
  let other: TestIdentity;
  let client: TestIdentity;
  let good: TestIdentity;

  const leaf = (more: Partial<Parameters<typeof makeTestCertificate>[0]> = {}) =>
    makeTestCertificate({
      subject: 'O=probe,CN=leaf',
      issuer: root,
      names: [{ kind: 'ip', value: host.address }],
      ...more,
    });

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'vt-probe-'));
    program = await programPath();
    lab = await Lab.up({ name: `e2e-probe-${process.pid}`, hosts: ['host-p'], keepState: false });
    host = lab.host('host-p');
    root = await makeTestCertificate({ subject: 'O=probe,CN=root', ca: true });
    other = await makeTestCertificate({ subject: 'O=probe,CN=other', ca: true });
    client = await leaf({ subject: 'O=probe,CN=client' });
    good = await leaf();
    // So that a daemon serves what a client is to refuse.
    await configure('tls_no_sanity_certificate = 1\n');
    await serve(good);
    await host.run(['systemctl', 'stop', 'libvirtd.service']);
    await host.run(['systemctl', 'enable', '--now', 'libvirtd-tls.socket']);
    await host.run(['systemctl', 'start', 'libvirtd.service']);
  });
  after(async () => {
    try {
      await lab?.down({ deleteState: true });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  async function configure(text: string): Promise<void> {
    await host.run(['sh', '-c', 'printf %s "$1" >>/etc/libvirt/libvirtd.conf', 'sh', text]);
  }

  async function serve(identity: TestIdentity, ca: TestIdentity = root, crl?: string): Promise<void> {
    await host.writeFile('/etc/pki/CA/cacert.pem', ca.pem);
    await host.writeFile('/etc/pki/libvirt/servercert.pem', identity.pem);
    await host.writeFile('/etc/pki/libvirt/private/serverkey.pem', identity.keyPem, 0o600);
    await host.run(['rm', '-f', '/etc/pki/CA/cacrl.pem']);
    if (crl !== undefined) await host.writeFile('/etc/pki/CA/cacrl.pem', crl);
  }

  /** Not by server-update-tls, which refuses bad files whatever the configuration says. */
  const reload = () =>
    host.run(['sh', '-c', 'systemctl reset-failed libvirtd && systemctl restart libvirtd && virsh version']);

  const crlOf = (revoked: TestIdentity): string => {
    const now = systemClock.now();
    const entry = {
      serialNumber: revoked.certificate.serialNumber,
      revocationDate: now,
      reason: 'keyCompromise',
    } as const;
    const fields = { number: 1n, thisUpdate: instant(now - DAY), nextUpdate: instant(now + DAY) };
    return encodePem('X509 CRL', issueCrl(prepareIssuer(root), { ...fields, entries: [entry] }));
  };

  /** The files of a client, here and at the same path on the host. */
  async function clientFiles(name: string, files: Readonly<Record<string, string>>): Promise<string> {
    const path = join(directory, name);
    await mkdir(path, { recursive: true });
    for (const [file, text] of Object.entries(files)) {
      await writeFile(join(path, file), text);
      await host.writeFile(join(path, file), text);
    }
    return path;
  }

  const filesOf = (identity: TestIdentity | undefined, crl?: string) => ({
    'cacert.pem': root.pem,
    ...(crl === undefined ? {} : { 'cacrl.pem': crl }),
    ...(identity === undefined ? {} : { 'clientcert.pem': identity.pem, 'clientkey.pem': identity.keyPem }),
  });

  function probe(uri: string, ...options: readonly string[]): Promise<Answer> {
    const { promise, resolve } = Promise.withResolvers<Answer>();
    execFile(program, ['probe', uri, ...options, '--timeout', '120', '--json'], (error, stdout) => {
      resolve({ ...(JSON.parse(stdout) as Answer), code: Number(error?.code ?? 0) });
    });
    return promise;
  }

  async function judged(
    title: string,
    files: Readonly<Record<string, string>>,
    expected: readonly [outcome: string, side: string | null, reason: string | null],
    address: string = host.address,
  ): Promise<void> {
    const path = await clientFiles(title.replaceAll(/\W+/g, '-'), files);
    const uri = `qemu+tls://${address}/system?pkipath=${path}`;
    const said = await probe(uri);
    assert.deepEqual([said.outcome, said.side, said.reason], expected, `${title}: ${JSON.stringify(said)}`);
    assert.equal(
      said.code,
      said.outcome === 'accepted' ? 0 : said.outcome === 'unreachable' ? 6 : said.side === 'server' ? 5 : 1,
    );
    // libvirt's own client, with the very files.
    const virsh = await host.exec(['virsh', '-c', uri, 'hostname']);
    assert.equal(virsh.code === 0, said.outcome === 'accepted', `${title}: virsh says ${virsh.stderr}`);
  }

  it('1. agrees with virsh on every server that a client is to take or to refuse', async () => {
    await judged('good', filesOf(client), ['accepted', null, null]);
    await judged('revoked server', filesOf(client, crlOf(good)), ['refused', 'client', 'revoked']);
    const cases = [
      ['name', await leaf({ names: [{ kind: 'dns', value: 'elsewhere.example' }] })],
      ['chain', await leaf({ issuer: other })],
      ['date', await leaf({ notBefore: '2020-01-01T00:00:00Z', notAfter: '2021-01-01T00:00:00Z' })],
      ['wrong_purpose', await leaf({ purposes: { oids: [OID.clientAuth], critical: true } })],
    ] as const;
    for (const [reason, identity] of cases) {
      await serve(identity);
      await reload();
      await judged(`server ${reason}`, filesOf(client), ['refused', 'client', reason]);
    }
    await serve(good);
    await reload();
  });

  it('2. agrees with virsh on every client that a server is to refuse, or that refuses itself', async () => {
    const expired = await leaf({ notBefore: '2020-01-01T00:00:00Z', notAfter: '2021-01-01T00:00:00Z' });
    const forServers = await leaf({ purposes: { oids: [OID.serverAuth], critical: true } });
    const stranger = await leaf({ issuer: other });
    await judged('no certificate', filesOf(undefined), ['refused', 'server', 'no_client_certificate']);
    await judged('own date', filesOf(expired), ['refused', 'client', 'own_date']);
    await judged('own purpose', filesOf(forServers), ['refused', 'client', 'own_wrong_purpose']);
    await judged('own chain', filesOf(stranger), ['refused', 'client', 'own_chain']);
    await judged('no CA', {}, ['refused', 'client', 'own_ca']);
    await judged(
      'stranger that trusts its own authority too',
      { ...filesOf(stranger), 'cacert.pem': root.pem + other.pem },
      ['refused', 'server', 'client_refused'],
    );
    await serve(good, root, crlOf(client));
    await reload();
    await judged('revoked client', filesOf(client), ['refused', 'server', 'client_refused']);
    await judged('revoked client whose CRL is here', filesOf(client, crlOf(client)), [
      'refused',
      'server',
      'client_revoked',
    ]);
    await serve(good);
    await reload();
  });

  it('3. says that nobody listens, and where libvirt listens without TLS', async () => {
    const path = await clientFiles('places', filesOf(client));
    const at = (port: number) => probe(`qemu+tls://${host.address}:${port}/system?pkipath=${path}`);
    assert.equal((await at(16599)).reason, 'not_listening');
    await configure('auth_tcp = "none"\n');
    await host.run(['systemctl', 'stop', 'libvirtd.service']);
    await host.run(['systemctl', 'enable', '--now', 'libvirtd-tcp.socket']);
    await host.run(['systemctl', 'start', 'libvirtd.service']);
    assert.equal((await at(16509)).reason, 'plain_tcp');
    assert.equal((await at(22)).reason, 'not_tls');
  });

  it('4. tells of a name list that leaves the client out', async () => {
    await configure('tls_allowed_dn_list = ["O=probe,CN=somebody"]\n');
    await reload();
    const path = await clientFiles('dn-list', filesOf(client));
    const said = (await probe(`qemu+tls://${host.address}/system?pkipath=${path}`)) as Answer & {
      readonly causes: readonly {
        readonly reason: string;
        readonly standing: string;
        readonly detail: string;
      }[];
    };
    assert.deepEqual([said.side, said.reason], ['server', 'client_refused']);
    assert.match(said.causes.find(({ reason }) => reason === 'dn_list')?.detail ?? '', /O=probe,CN=client/);
  });

  it('5. makes the exchange of VNC and SPICE with the QEMU of a VM', async () => {
    const qemu = ['vnc', 'spice'].flatMap((service) => [
      `${service}_tls = 1`,
      `${service}_tls_x509_cert_dir = "/etc/pki/libvirt-${service}"`,
    ]);
    await host.run([
      'sh',
      '-c',
      'printf "%s\\n" "$@" >>/etc/libvirt/qemu.conf',
      'sh',
      ...qemu,
      'vnc_tls_x509_verify = 1',
    ]);
    for (const service of ['vnc', 'spice']) {
      const place = `/etc/pki/libvirt-${service}`;
      await host.writeFile(`${place}/ca-cert.pem`, root.pem);
      await host.writeFile(`${place}/server-cert.pem`, good.pem);
      await host.writeFile(`${place}/server-key.pem`, good.keyPem);
      await host.run(['chmod', '-R', 'a+rX', '/etc/pki']);
    }
    await reload();
    await startVm(host, { name: 'shown', vncListen: host.address, spiceListen: host.address });
    const display = await host.run(['virsh', '-c', 'qemu:///system', 'domdisplay', '--all', 'shown']);
    const vncPort = 5900 + Number(/^vnc:\/\/[^:]*:(\d+)/m.exec(display)?.[1]);
    const spicePort = /tls-port=(\d+)/.exec(display)?.[1];
    assert.ok(spicePort, display);
    const path = await clientFiles('display', filesOf(client));
    const ca = ['--ca', join(path, 'cacert.pem')];
    const own = ['--cert', join(path, 'clientcert.pem'), '--key', join(path, 'clientkey.pem')];
    const vnc = `vnc://${host.address}:${vncPort}`;
    assert.equal((await probe(vnc, ...ca, ...own)).outcome, 'accepted');
    assert.equal((await probe(vnc, ...ca)).reason, 'no_client_certificate');
    assert.equal((await probe(vnc, ...ca, ...own, '--server-name', '192.0.2.1')).reason, 'name');
    const spice = `spice://${host.address}?tls-port=${spicePort}`;
    assert.equal((await probe(spice, ...ca)).outcome, 'accepted');
    assert.equal((await probe(spice, ...ca, '--host-subject', 'O=probe,CN=leaf')).outcome, 'accepted');
    assert.equal((await probe(spice, ...ca, '--host-subject', 'O=probe,CN=x')).reason, 'name');
  });
});
