import { createServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { systemClock } from '@virt-trust/base/clock.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { channelServerOptions } from '@virt-trust/channel/http2-limits.ts';
import { createChannelIdentity } from '@virt-trust/channel/identity.ts';
import { listenChannel } from '@virt-trust/channel/listener.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { CrlDelivery, InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import type { DesiredCredential, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type {
  CertificateRequest,
  IssuedCertificate,
  ObservedCredential,
  ObservedState,
} from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { parseCrls } from '@virt-trust/pki/crl.ts';
import { formatCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { parseHostName } from '@virt-trust/pki/general-name.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { encodeName, formatName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';

/** What a host does with no libvirt behind it: real keys and requests, and each certificate is served at once. */
class SimulatedHost {
  readonly #name: string;
  #desired: DesiredState | null = null;
  #credentials: ObservedCredential[] = [];
  #requests: CertificateRequest[] = [];
  #crls: InstalledCrl[] = [];
  readonly #wanted = new Map<Service, string>();
  #last = 0;
  #waiting: (() => void)[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  /** The answer to a request of the manager; undefined where a simulation has none. */
  async answer(method: string, path: string, query: URLSearchParams, body: unknown): Promise<unknown> {
    switch (`${method} ${path}`) {
      case 'GET /v1/inventory':
        return this.#inventory();
      case 'GET /v1/observed-state':
        return this.#observed();
      case 'GET /v1/desired-state':
        return this.#desired;
      case 'PUT /v1/desired-state':
        return this.#desire(body as DesiredState);
      case 'GET /v1/certificate-requests':
        return { requests: this.#requests };
      case 'PUT /v1/certificates':
        return this.#serve((body as { certificates: IssuedCertificate[] }).certificates);
      case 'GET /v1/events':
        return this.#events(Number(query.get('after') ?? -1), Number(query.get('wait') ?? 0));
      case 'PUT /v1/managers':
        return body;
      case 'PUT /v1/crls':
        return { crls: this.#install((body as { crls: CrlDelivery[] }).crls), disconnected: [] };
      default:
        return undefined;
    }
  }

  #observed(): ObservedState {
    return {
      mode: 'manage',
      epoch: this.#desired?.epoch ?? 0,
      number: this.#desired?.number ?? 0,
      settings: this.#desired?.settings ?? null,
      credentials: this.#credentials,
      pending: [],
      served: [],
      network: null,
      capabilities: testCapabilities({ at: systemClock.now(), libvirtTcp: null }),
      crls: this.#crls,
      rescues: [],
      failure: null,
      busy: false,
    };
  }

  async #desire(desired: DesiredState): Promise<ObservedState> {
    this.#desired = desired;
    for (const credential of desired.credentials) {
      const { service, subject, names, keyAlgorithm, revision, bundle } = credential;
      const wanted = JSON.stringify([subject, names, keyAlgorithm, revision, bundle]);
      if (this.#wanted.get(service) === wanted) continue;
      this.#wanted.set(service, wanted);
      await this.#request(credential);
    }
    this.#tell();
    return this.#observed();
  }

  async #request({ service, subject, names }: DesiredCredential): Promise<void> {
    const known = this.#credentials.find((one) => one.service === service);
    const generation = (known?.generation ?? 0) + 1;
    const request = createCertificationRequest({
      privateKey: await generatePrivateKey('ecdsa-p256-sha256'),
      subject: encodeName(subject),
      sans: [...names.dns, ...names.addresses].map(parseHostName),
    });
    const csr = encodePem('CERTIFICATE REQUEST', request);
    this.#requests = [
      ...this.#requests.filter((one) => one.service !== service),
      { service, generation, csr },
    ];
    this.#put({
      ...(known ?? nothingServed(service)),
      candidate: { generation, pin: null },
      phase: 'requested',
    });
  }

  #serve(certificates: readonly IssuedCertificate[]): ObservedState {
    for (const { service, generation, certificate } of certificates) {
      const [leaf] = parseCertificates(certificate);
      if (leaf === undefined) continue;
      const { serialNumber, pin, notAfter } = leaf;
      this.#requests = this.#requests.filter((one) => one.service !== service);
      this.#put({ ...nothingServed(service), generation, identity: 'ours', serialNumber, pin, notAfter });
    }
    this.#tell();
    return this.#observed();
  }

  #install(deliveries: readonly CrlDelivery[]): InstalledCrl[] {
    const installed = deliveries.flatMap(({ purpose, crl: pem }) =>
      parseCrls(pem).map((crl) => ({
        purpose,
        issuer: formatName(crl.issuer),
        number: formatCrlNumber(crl.extensions.crlNumber ?? 0n),
        thisUpdate: crl.thisUpdate,
        nextUpdate: crl.nextUpdate ?? crl.thisUpdate,
        entries: 0,
        installedAt: systemClock.now(),
        failure: null,
      })),
    );
    const others = this.#crls.filter(({ purpose }) => !installed.some((one) => one.purpose === purpose));
    this.#crls = [...others, ...installed];
    return this.#crls;
  }

  #put(credential: ObservedCredential): void {
    const others = this.#credentials.filter(({ service }) => service !== credential.service);
    this.#credentials = [...others, credential];
  }

  #tell(): void {
    this.#last += 1;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async #events(after: number, waitSeconds: number) {
    if (after >= this.#last && waitSeconds > 0) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, waitSeconds * 1000);
      this.#waiting.push(resolve);
      await promise;
      clearTimeout(timer);
    }
    return { events: [], last: this.#last };
  }

  #inventory(): Inventory {
    return {
      takenAt: systemClock.now(),
      hostName: this.#name,
      machineId: '0'.repeat(32),
      distribution: { id: 'debian', version: '12', prettyName: 'Debian GNU/Linux 12 (simulated)' },
      architecture: 'x86_64',
      libvirt: {
        version: '9.0.0',
        daemonMode: 'monolithic',
        running: true,
        hostUuid: `00000000-0000-4000-8000-${this.#name.replaceAll(/\D/g, '').padStart(12, '0')}`,
        tlsListening: true,
        tcpListening: false,
        authTls: 'none',
        sasl: false,
        allowedDns: null,
        migrateTlsForce: false,
        vncTls: true,
        vncTlsVerify: false,
        spiceTls: true,
        definedVms: 0,
      },
      qemu: { version: '7.2.0', user: 'libvirt-qemu', group: 'libvirt-qemu' },
      lsm: 'none',
      firewall: 'open',
      interfaces: [],
      runningVms: [],
      tlsFiles: [],
      settings: [],
      connections: [],
    };
  }
}

function nothingServed(service: Service): ObservedCredential {
  return {
    service,
    generation: null,
    candidate: null,
    identity: 'none',
    serialNumber: null,
    pin: null,
    notAfter: null,
    phase: 'settled',
    proofs: [],
    failure: null,
  };
}

/** Opens the channel of a simulated host on a port of its own, as an agent does. */
export async function simulateAgent(
  name: string,
  managerPins: readonly string[],
): Promise<{ name: string; pin: string; port: number }> {
  const identity = await createChannelIdentity({ role: 'agent', randomness: systemRandomness });
  const host = new SimulatedHost(name);
  const server = createServer(channelServerOptions(), (request, response) => {
    respond(host, identity.pin, request, response).catch(() => response.stream.destroy());
  });
  const managers = new PinSet('manager', managerPins);
  const { address } = await listenChannel({
    identity: () => identity,
    diallers: 'manager',
    trustedPeers: () => managers,
    host: '127.0.0.1',
    port: 0,
    server,
    onRefused: () => {},
  });
  return { name, pin: identity.pin, port: address.port };
}

async function respond(
  host: SimulatedHost,
  pin: string,
  request: Http2ServerRequest,
  response: Http2ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body: unknown = chunks.length === 0 ? undefined : JSON.parse(Buffer.concat(chunks).toString());
  const url = new URL(request.url, 'http://agent');
  const answer = url.pathname.startsWith('/v1/identity')
    ? { current: pin, next: null, previous: null }
    : await host.answer(request.method, url.pathname, url.searchParams, body);
  response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify(answer ?? {}));
}
