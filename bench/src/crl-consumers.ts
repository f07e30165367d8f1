import { randomBytes } from 'node:crypto';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Host } from '@virt-trust/lab/host.ts';
import { startVm } from '@virt-trust/lab/vm.ts';
import { issueRootAuthority } from '@virt-trust/pki/authority-issue.ts';
import { parseCertificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { prepareIssuer } from '@virt-trust/pki/certificate-issue.ts';
import { encodeCrlsPem } from '@virt-trust/pki/crl.ts';
import { EncodedCrlEntries, issueCrl } from '@virt-trust/pki/crl-issue.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { median } from './figures.ts';
import { add, onLab } from './on-lab.ts';
import type { Measurement } from './suite.ts';

/** The last is past what a host is given: it shows why. */
const SIZES = [0, 1000, 10_000] as const;
const RUNS = 9;
const VM = 'bench';
const SERVICES = '/var/lib/virt-trust/services';
/** As aimed at, in milliseconds. */
const VNC_RELOAD = 300;

/** A CRL that GnuTLS obeys: it goes by the issuer's name and does not look at the signature. */
async function crlFor(bundle: string, entries: number): Promise<string> {
  const [authority] = parseCertificates(bundle);
  if (authority === undefined) throw new RangeError('no authority in the bundle');
  const now = systemClock.now();
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const fields = {
    serialNumber: newSerialNumber(systemRandomness),
    subject: authority.subject,
    notBefore: now,
    notAfter: instant(now + DAY),
    nameConstraints: undefined,
  };
  const issuer = prepareIssuer({ certificate: parseCertificate(issueRootAuthority(fields, key)), key });
  const list = EncodedCrlEntries.of(
    Array.from({ length: entries }, () => ({
      serialNumber: newSerialNumber({ bytes: randomBytes }),
      revocationDate: now,
      reason: 'keyCompromise' as const,
    })),
  );
  const times = { number: 1n, thisUpdate: now, nextUpdate: instant(now + DAY) };
  return encodeCrlsPem([{ der: issueCrl(issuer, { ...times, entries: list }) }]);
}

/** What is run on the host, and what it reads again: the directory with the credentials of a service. */
const CONSUMERS = [
  {
    what: 'libvirtd, `server-update-tls`',
    service: 'libvirt',
    command: ['virt-admin', '-c', 'libvirtd:///system', 'server-update-tls', 'libvirtd'],
    idle: ['virt-admin', '-c', 'libvirtd:///system', 'server-list'],
  },
  {
    what: 'VNC of a running VM, `display-reload`',
    service: 'vnc',
    command: [
      ...['virsh', '-c', 'qemu:///system', 'qemu-monitor-command', VM],
      '{"execute":"display-reload","arguments":{"type":"vnc","tls-certs":true}}',
    ],
    idle: ['virsh', '-c', 'qemu:///system', 'qemu-monitor-command', VM, '{"execute":"query-name"}'],
  },
  {
    what: 'QEMU, start with these credentials',
    service: 'migration',
    command: [
      ...['qemu-img', 'info', '--object'],
      `tls-creds-x509,id=t,endpoint=server,verify-peer=yes,dir=${SERVICES}/migration/current`,
      '/tmp/bench.raw',
    ],
    idle: ['qemu-img', 'info', '/tmp/bench.raw'],
  },
] as const;

async function timeOf(host: Host, command: readonly string[]): Promise<number> {
  const times: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const start = performance.now();
    await host.run(command);
    times.push(performance.now() - start);
  }
  return median(times);
}

/** What a CRL costs where it is read: the program's time less that of one which reads none, beside it. */
export async function measureConsumers(say: (line: string) => void): Promise<Measurement[]> {
  return await onLab({ name: 'bench-crl', hosts: ['bench-a'], say }, async (bed) => {
    const host = bed.lab.host('bench-a');
    await add(bed, host);
    await startVm(host, { name: VM, vncListen: '0.0.0.0' });
    await host.run(['truncate', '-s', '1M', '/tmp/bench.raw']);
    const rows: Measurement[] = [];
    for (const { what, service, command, idle } of CONSUMERS) {
      const directory = `${SERVICES}/${service}`;
      const bundle = await host.run([
        'sh',
        '-c',
        `cat ${directory}/current/cacert.pem ${directory}/current/ca-cert.pem 2>/dev/null || true`,
      ]);
      for (const size of SIZES) {
        const crl = await crlFor(bundle, size);
        await host.writeFile(`${directory}/crl.pem`, crl, 0o644);
        const [own, base] = [await timeOf(host, command), await timeOf(host, idle)];
        const aim = service === 'vnc' && size === 1000;
        rows.push({
          what: `${what}, CRL of ${size} entries`,
          value: `${Math.round(Math.max(0, own - base))} ms`,
          ratio: `${Math.round(own)} ms with the program, of which ${Math.round(base)} ms without reading it${
            aim ? `; ${((own - base) / VNC_RELOAD).toFixed(2)} of the ${VNC_RELOAD} ms aimed at` : ''
          }`,
        });
        say(`${rows.at(-1)?.what}: ${rows.at(-1)?.value}, ${rows.at(-1)?.ratio}`);
      }
    }
    return rows;
  });
}
