import { connect } from 'node:tls';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import { readGnutlsCertificatePem } from '@virt-trust/libvirt/gnutls/certificate.ts';
import { readFileState } from './reader.ts';
import type { CheckFinding } from './report.ts';

const TIMEOUT_MS = 5000;

/** What a TLS port of this host shows, in DER; undefined where nothing answers with a certificate. */
function shownBy(host: string, port: number): Promise<Uint8Array | undefined> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  // Only looked at: nothing is sent to it.
  const socket = connect({ host, port, rejectUnauthorized: false });
  socket.setTimeout(TIMEOUT_MS, () => socket.destroy());
  socket.once('secureConnect', () => {
    resolve(socket.getPeerX509Certificate()?.raw);
    socket.destroy();
  });
  socket.once('error', () => resolve(undefined)).once('close', () => resolve(undefined));
  return promise;
}

/** Whether libvirtd shows the certificate that is stored. */
export async function checkServedByLibvirtd(
  port: number,
  certificateFile: string,
  daemon: string,
): Promise<CheckFinding[]> {
  const [shown, stored] = await Promise.all([shownBy('127.0.0.1', port), readStored(certificateFile)]);
  if (shown === undefined) {
    return [
      {
        severity: 'error',
        code: 'served.nothing',
        file: `port ${port}`,
        text: `${daemon} makes no TLS handshake on port ${port}`,
        remedy: `systemctl status ${daemon}; journalctl -u ${daemon}`,
      },
    ];
  }
  if (stored === undefined || Buffer.compare(shown, stored) === 0) return [];
  return [
    {
      severity: 'warning',
      code: 'served.differs',
      file: certificateFile,
      text: `${daemon} shows another certificate than the one that is stored: it was not told of the new one`,
      remedy: `virt-admin -c ${daemon}:///system server-update-tls ${daemon}`,
    },
  ];
}

/** Whether the VNC server of a VM shows the certificate that is stored. */
export async function checkServedByVnc(
  vm: {
    readonly uuid: string;
    readonly name: string;
    readonly listen: string;
    readonly port: number;
    readonly directory: string;
  },
  clock: Clock,
): Promise<CheckFinding[]> {
  const file = `${vm.directory}/server-cert.pem`;
  const stored = await readFileState(file);
  const trust = await readFileState(`${vm.directory}/ca-cert.pem`);
  if (stored.kind !== 'text' || trust.kind !== 'text') return [];
  const host =
    vm.listen === '' || vm.listen === '0.0.0.0' ? '127.0.0.1' : vm.listen === '::' ? '::1' : vm.listen;
  let pin: unknown;
  try {
    const options = {
      host,
      port: vm.port,
      timeoutMs: TIMEOUT_MS,
      serverName: null,
      trust: trust.text,
      clock,
    };
    pin = (await probeVnc(options)).servedCertificate.pin;
  } catch (error) {
    if (!isTrustError(error)) throw error;
    pin = error.context?.servedPin;
  }
  const own = readPin(stored.text);
  if (pin === undefined || own === undefined || pin === own) return [];
  return [
    {
      severity: 'warning',
      code: 'served.differs',
      file,
      text: `the VNC server of VM ${vm.name} shows another certificate than the one that is stored`,
      // SECURITY: for a shell, where a name that a tenant chose might say more than a name.
      remedy: `virsh domdisplay-reload ${vm.uuid} (libvirt 10.2), or virsh qemu-monitor-command ${vm.uuid} '{"execute":"display-reload","arguments":{"type":"vnc","tls-certs":true}}'`,
    },
  ];
}

async function readStored(file: string): Promise<Uint8Array | undefined> {
  const state = await readFileState(file);
  if (state.kind !== 'text') return undefined;
  try {
    return readGnutlsCertificatePem(state.text).der;
  } catch {
    return undefined;
  }
}

function readPin(text: string): string | undefined {
  try {
    return readGnutlsCertificatePem(text).pin;
  } catch {
    return undefined;
  }
}
