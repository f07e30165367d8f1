import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { testDesiredSettings } from '@virt-trust/contract/model/fixtures.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { issueRootAuthority } from '@virt-trust/pki/authority-issue.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import {
  type Issuer,
  prepareCertificate,
  prepareIssuer,
  prepareTemplate,
  signCertificate,
} from '@virt-trust/pki/certificate-issue.ts';
import type { GeneralName } from '@virt-trust/pki/general-name.ts';
import {
  encodePrivateKeyPem,
  generatePrivateKey,
  keyMatchesCertificate,
  parsePrivateKeyPem,
  spkiOfKey,
} from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { decodePem, encodePem } from '@virt-trust/pki/pem.ts';
import { leafProfile } from '@virt-trust/pki/profiles.ts';
import { parseCertificationRequest } from '@virt-trust/pki/request.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { DaemonTarget, Expectation, HostEffects, HostFacts } from '../services/host-effects.ts';
import type { RunningMigration } from '../services/running-migrations.ts';
import type { Sighting, Where } from '../services/sighting.ts';
import type { Sockets } from '../sets/apply-state.ts';
import { LAYOUTS } from '../sets/layout.ts';
import type { GenerationContent } from '../sets/staging.ts';
import { readFileIfPresent } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';

const ORGANIZATION = 'Example';
const NAMES: readonly GeneralName[] = [
  { kind: 'dns', value: 'host-a' },
  { kind: 'ip', value: '192.0.2.11' },
];

/** A root authority that signs end certificates itself, which is enough for files. */
export interface TestAuthority {
  readonly issuer: Issuer;
  readonly pem: string;
  readonly keyPem: string;
}

export async function makeAuthority(
  commonName: string,
  days = 3650,
  clock: Clock = systemClock,
): Promise<TestAuthority> {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const now = Math.floor(clock.now() / 1000) * 1000;
  const der = issueRootAuthority(
    {
      serialNumber: newSerialNumber(systemRandomness),
      subject: encodeName({ organization: ORGANIZATION, commonName }),
      notBefore: instant(now - 400 * DAY),
      notAfter: instant(now + days * DAY),
      nameConstraints: undefined,
    },
    key,
  );
  const pem = encodePem('CERTIFICATE', der);
  const [certificate] = parseCertificates(pem) as [Certificate];
  return { issuer: prepareIssuer({ certificate, key }), pem, keyPem: encodePrivateKeyPem(key) };
}

/** An authority that another process made. */
export function readAuthority(pem: string, keyPem: string): TestAuthority {
  const [certificate] = parseCertificates(pem) as [Certificate];
  return { issuer: prepareIssuer({ certificate, key: parsePrivateKeyPem(keyPem) }), pem, keyPem };
}

/** A certificate for a request, or for a public key. */
export function issue(
  { issuer }: TestAuthority,
  what: { readonly csr: string } | { readonly spki: Uint8Array },
  names = NAMES,
): string {
  const request =
    'csr' in what ? parseCertificationRequest(decodePem(what.csr)[0]?.bytes ?? Buffer.alloc(0)) : undefined;
  const now = Math.floor(Date.now() / 1000) * 1000;
  const prepared = prepareCertificate(
    prepareTemplate(issuer, leafProfile(request?.names.length === 0 ? 'libvirt-client' : 'migration')),
    {
      serialNumber: newSerialNumber(systemRandomness),
      commonName: 'host-a',
      names: request?.names ?? names,
      notBefore: instant(now - DAY),
      notAfter: instant(now + 90 * DAY),
      publicKey: request?.spki ?? ('spki' in what ? what.spki : Buffer.alloc(0)),
    },
  );
  return encodePem('CERTIFICATE', signCertificate(prepared, issuer));
}

/** Writes configuration files as a distribution ships them and, with an authority, a set that somebody installed. */
export async function makeHost(paths: AgentPaths, found?: TestAuthority): Promise<void> {
  await mkdir(paths.at('/etc/libvirt'), { recursive: true });
  await writeFile(
    paths.at('/etc/libvirt/libvirtd.conf'),
    '# libvirtd\n#auth_tls = "none"\nhost_uuid = "1"\n',
  );
  await writeFile(paths.at('/etc/libvirt/qemu.conf'), '# qemu\n#vnc_tls = 1\nuser = "qemu"\n');
  for (const directory of [paths.agent, paths.run]) await mkdir(directory, { recursive: true });
  await writeFile(socketsFile(paths), JSON.stringify(NO_SOCKETS));
  if (found === undefined) return;
  for (const service of SERVICES) {
    const key = await generatePrivateKey('ecdsa-p256-sha256');
    const certificate = issue(found, { spki: spkiOfKey(key) });
    const content: GenerationContent = {
      bundle: found.pem,
      certificate,
      key: encodePrivateKeyPem(key),
      'client-certificate': certificate,
      'client-key': encodePrivateKeyPem(key),
      'dh-parameters': 'found',
    };
    for (const { path, name } of LAYOUTS[service].links) {
      const file = LAYOUTS[service].files.find((one) => one.name === name);
      if (file === undefined || file.content === 'dh-parameters') continue;
      await mkdir(dirname(paths.at(path)), { recursive: true });
      await writeFile(paths.at(path), content[file.content], { mode: 0o640 });
    }
  }
}

/** A desired state for all services. */
export function desiredState(
  authority: TestAuthority,
  number: number,
  change: { identity?: 'ours' | 'found'; keepFoundTrust?: boolean; revision?: number } = {},
): DesiredState {
  return {
    epoch: 1,
    number,
    credentials: SERVICES.map((service) => ({
      service,
      endpoints: [],
      identity: change.identity ?? 'ours',
      subject: { commonName: 'host-a', organization: ORGANIZATION },
      names: { dns: ['host-a'], addresses: ['192.0.2.11'] },
      keyAlgorithm: 'ecdsa-p256',
      revision: change.revision ?? 1,
      bundle: authority.pem,
      keepFoundTrust: change.keepFoundTrust ?? false,
    })),
    settings: testDesiredSettings(),
  };
}

/** A desired state for no service, because TLS is switched off. */
export function tlsOff(authority: TestAuthority, number: number): DesiredState {
  const { settings, ...desired } = desiredState(authority, number);
  return { ...desired, credentials: [], settings: { ...settings, tls: 'off', plainTcp: 'keep' } };
}

/** What the default paths of a service resolve to now; undefined where nothing is there. */
export async function served(paths: AgentPaths, service: Service): Promise<Partial<GenerationContent>> {
  const entries = await Promise.all(
    LAYOUTS[service].links.map(async ({ path, name }) => {
      const bytes = await readFileIfPresent(paths.at(path)).catch(() => undefined);
      const file = LAYOUTS[service].files.find((one) => one.name === name);
      return bytes === undefined || file === undefined
        ? []
        : [[file.content, bytes.toString('utf8')] as const];
    }),
  );
  return Object.fromEntries(entries.flat());
}

const NO_SOCKETS: Sockets = {
  tls: { enabled: false, active: false },
  tcp: { enabled: false, active: false },
};

function socketsFile(paths: AgentPaths): string {
  return join(paths.root, 'sockets.json');
}

/** A host without processes: sockets are a file, and a proof looks at what the default paths resolve to. */
export class FileEffects implements HostEffects {
  readonly calls: string[] = [];
  readonly #paths: AgentPaths;
  readonly #failing: ReadonlySet<string>;
  readonly vms: HostFacts['vms'];

  constructor(paths: AgentPaths, failing: readonly string[] = [], vms: HostFacts['vms'] = []) {
    this.#paths = paths;
    this.#failing = new Set(failing);
    this.vms = vms;
  }

  async facts(): Promise<HostFacts> {
    return {
      daemon: 'libvirtd',
      listening: 'systemd-sockets',
      ipv6: true,
      libvirtVersion: '9.0.0',
      qemuVersion: '7.2.22',
      qemuUid: process.getuid?.() ?? 0,
      qemuGid: process.getgid?.() ?? 0,
      sockets: JSON.parse(await readFile(socketsFile(this.#paths), 'utf8')),
      vms: this.vms,
      staleDevices: [],
    };
  }

  async permitReading(): Promise<void> {
    this.#call('permit-reading');
  }

  async forbidReading(): Promise<void> {
    this.#call('forbid-reading');
  }

  async bringDaemon({ sockets, restart }: DaemonTarget): Promise<void> {
    this.#call(restart ? 'restart' : 'sockets');
    await writeFile(socketsFile(this.#paths), JSON.stringify(sockets));
  }

  /** What libvirt is said to work on; `migrationsChange` waits for `changeMigrations`. */
  running: readonly RunningMigration[] = [];
  #migrationsChanged = Promise.withResolvers<void>();

  changeMigrations(running: readonly RunningMigration[]): void {
    this.running = running;
    this.#migrationsChanged.resolve();
    this.#migrationsChanged = Promise.withResolvers();
  }

  async migrations(): Promise<readonly RunningMigration[]> {
    return this.running;
  }

  async migrationsChange(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => resolve(), { once: true });
    if (!signal.aborted) await Promise.race([promise, this.#migrationsChanged.promise]);
  }

  async openPorts(): Promise<void> {
    this.#call('open-ports');
  }

  async closePorts(): Promise<void> {
    this.#call('close-ports');
  }

  async letClientsIn(): Promise<boolean> {
    return false;
  }

  async reload(service: Service): Promise<void> {
    this.#call(`reload-${service}`);
  }

  async runningVms() {
    return this.vms;
  }

  /** What a test says is served; by default libvirt serves what its files say. */
  sight: (services: readonly Service[]) => Promise<Sighting[]> = async () => [];

  async look({ services }: Where): Promise<Sighting[]> {
    return await this.sight(services);
  }

  async digestsForQemu(files: readonly string[]): Promise<Map<string, string>> {
    const digests = new Map<string, string>();
    for (const path of files) {
      const bytes = await readFileIfPresent(path).catch(() => undefined);
      if (bytes !== undefined) digests.set(path, createHash('sha256').update(bytes).digest('hex'));
    }
    return digests;
  }

  async prove(service: Service, { pin, at }: Expectation): Promise<Proof[]> {
    this.#call(`prove-${service}`);
    const content = await served(this.#paths, service);
    const [leaf] = parseCertificates(content.certificate ?? '') as [Certificate];
    if (leaf.pin !== pin || !keyMatchesCertificate(parsePrivateKeyPem(content.key ?? ''), leaf))
      throw new TrustError('proof.other_certificate', 'failed', `cannot see our certificate of ${service}`);
    return [{ kind: 'handshake', target: service, at, by: 'agent', servedPin: leaf.pin, detail: '' }];
  }

  #call(name: string): void {
    this.calls.push(name);
    if (this.#failing.has(name))
      throw new TrustError('test.failed', 'failed', `cannot ${name}: told to fail`);
  }
}
