import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { DesiredCredential, SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { type KeyAlgorithm, PURPOSE_OF_SERVICE, type Service } from '@virt-trust/contract/model/service.ts';
import { checkOwnFiles } from '@virt-trust/libvirt/sanity.ts';
import type { KeyAlgorithmName } from '@virt-trust/pki/algorithms.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import type { GeneralName } from '@virt-trust/pki/general-name.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';
import {
  encodePrivateKeyPem,
  generatePrivateKey,
  keyMatchesCertificate,
  parsePrivateKeyPem,
} from '@virt-trust/pki/key.ts';
import { encodeName, nameAttribute } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import { readFileIfPresent, syncDirectory, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { FileContent, ServiceLayout } from './layout.ts';

const ALGORITHMS: Readonly<Record<KeyAlgorithm, KeyAlgorithmName>> = {
  'ecdsa-p256': 'ecdsa-p256-sha256',
  'ecdsa-p384': 'ecdsa-p384-sha384',
  'rsa-2048': 'rsa-2048-sha256',
  'rsa-3072': 'rsa-3072-sha256',
};

/** Versions whose rules the files must pass. */
export interface Versions {
  readonly libvirt: string;
  readonly qemu: string;
}

/** The texts of a service's files. */
export type GenerationContent = Readonly<Record<FileContent, string>>;

/** A staged set that passed every check, with what identifies it. */
export interface VerifiedGeneration {
  readonly leaf: Certificate;
  readonly warnings: readonly string[];
}

/**
 * Generations as they are made, below the agent's own directory where only root reads: key, request, certificate,
 * and then the whole set of files, from which what is served is copied and, if disturbed, repaired.
 */
export class Staging {
  readonly #paths: AgentPaths;

  constructor(paths: AgentPaths) {
    this.#paths = paths;
  }

  directory(service: Service, generation: number): string {
    return join(this.#paths.agent, 'generations', service, String(generation));
  }

  /** The request of a generation, with a key made for it on this host; the same one when asked again. */
  async request(credential: DesiredCredential, generation: number): Promise<string> {
    const directory = this.directory(credential.service, generation);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const known = await readFileIfPresent(join(directory, 'request.pem'));
    if (known !== undefined) return known.toString('utf8');
    const keyPath = join(directory, 'key.pem');
    const madeBefore = await readFileIfPresent(keyPath);
    const privateKey =
      madeBefore === undefined
        ? await generatePrivateKey(ALGORITHMS[credential.keyAlgorithm])
        : parsePrivateKeyPem(madeBefore.toString('utf8'));
    if (madeBefore === undefined)
      await writeFileAtomic(keyPath, encodePrivateKeyPem(privateKey), { mode: 0o600 });
    const { organization, commonName } = credential.subject;
    const der = createCertificationRequest({
      privateKey,
      subject: encodeName({ organization, commonName }),
      sans: generalNamesOf(credential.names),
    });
    const pem = encodePem('CERTIFICATE REQUEST', der);
    await writeFileAtomic(join(directory, 'request.pem'), pem, { mode: 0o600 });
    return pem;
  }

  async readRequest(service: Service, generation: number): Promise<string | undefined> {
    const bytes = await readFileIfPresent(join(this.directory(service, generation), 'request.pem'));
    return bytes?.toString('utf8');
  }

  async hasCertificate(service: Service, generation: number): Promise<boolean> {
    const path = join(this.directory(service, generation), 'certificate.pem');
    return (await readFileIfPresent(path)) !== undefined;
  }

  /** Takes the certificate of a request; throws `certificate.unexpected` where it is not what was asked for. */
  async putCertificate(credential: DesiredCredential, generation: number, pem: string): Promise<void> {
    const { service } = credential;
    const directory = this.directory(service, generation);
    const key = parsePrivateKeyPem(await readFile(join(directory, 'key.pem'), 'utf8'));
    const [leaf] = parseCertificates(pem);
    if (leaf === undefined || !keyMatchesCertificate(key, leaf))
      throw unexpected(service, 'it is for another key');
    const difference = differenceOf(leaf, credential);
    if (difference !== undefined) throw unexpected(service, difference);
    await writeFileAtomic(join(directory, 'certificate.pem'), pem, { mode: 0o600 });
  }

  /** Key and certificate of a generation's own request. */
  async requested(service: Service, generation: number): Promise<{ certificate: string; key: string }> {
    const directory = this.directory(service, generation);
    const [certificate, key] = await Promise.all(
      ['certificate.pem', 'key.pem'].map((name) => readFile(join(directory, name), 'utf8')),
    );
    return { certificate: certificate as string, key: key as string };
  }

  /** Writes the whole set of a generation. */
  async write(layout: ServiceLayout, generation: number, content: GenerationContent): Promise<void> {
    const root = join(this.directory(layout.service, generation), 'files');
    for (const file of layout.files) {
      const path = join(root, file.name);
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await writeFileAtomic(path, content[file.content], { mode: 0o600 });
    }
    await syncDirectory(root);
    await syncDirectory(dirname(root));
  }

  /** The bytes of a staged file, undefined if there are none. */
  async file(service: Service, generation: number, name: string): Promise<Buffer | undefined> {
    return await readFileIfPresent(join(this.directory(service, generation), 'files', name));
  }

  /** The texts of a staged set. */
  async content(layout: ServiceLayout, generation: number): Promise<Partial<GenerationContent>> {
    const entries = await Promise.all(
      layout.files.map(async ({ name, content }) => {
        const bytes = await this.file(layout.service, generation, name);
        return bytes === undefined ? [] : [[content, bytes.toString('utf8')] as const];
      }),
    );
    return Object.fromEntries(entries.flat());
  }

  /** Destroys every generation but one. */
  async keepOnly(service: Service, generation: number): Promise<void> {
    const names = await readdir(join(this.#paths.agent, 'generations', service)).catch(() => []);
    for (const name of names) if (Number(name) !== generation) await this.destroy(service, Number(name));
  }

  async destroyAll(): Promise<void> {
    await rm(join(this.#paths.agent, 'generations'), { recursive: true, force: true });
  }

  /** Destroys a generation with its private key. */
  async destroy(service: Service, generation: number): Promise<void> {
    await rm(this.directory(service, generation), { recursive: true, force: true });
  }
}

/**
 * Checks a set as libvirt and QEMU themselves do, and that key and certificate belong together and, for an
 * identity of ours, that the certificate is the one that is desired; throws `generation.unusable`.
 */
export function verifyContent(
  layout: ServiceLayout,
  content: Partial<GenerationContent>,
  credential: DesiredCredential,
  at: Instant,
  versions: Versions,
): VerifiedGeneration {
  const { service } = layout;
  const caCertificates = parseCertificates(content.bundle ?? '');
  const ends = [
    { role: 'server' as const, certificate: content.certificate, key: content.key },
    ...(layout.files.some(({ content: kind }) => kind === 'client-certificate')
      ? [{ role: 'client' as const, certificate: content['client-certificate'], key: content['client-key'] }]
      : []),
  ];
  const warnings: string[] = [];
  const errors = new Map<string, string>();
  let leaf: Certificate | undefined;
  for (const { role, certificate, key } of ends) {
    const certificates = parseCertificates(certificate ?? '');
    const own = certificates[0] as Certificate;
    if (!keyMatchesCertificate(parsePrivateKeyPem(key ?? ''), own))
      throw unusable(service, credential, `the ${role} key does not belong to the ${role} certificate`);
    const checker =
      service === 'libvirt'
        ? ({ program: 'libvirt', version: versions.libvirt } as const)
        : ({ program: 'qemu', version: versions.qemu } as const);
    for (const finding of checkOwnFiles({ role, caCertificates, certificates, at, checker })) {
      if (finding.severity === 'error' && !errors.has(role)) errors.set(role, finding.message);
      if (finding.severity !== 'error') warnings.push(finding.message);
    }
    leaf ??= own;
  }
  const [error] = errors.values();
  // What was found for storage may have been made for one of the ends alone, and is used as before.
  const needed =
    credential.identity === 'found' && PURPOSE_OF_SERVICE[service] === 'storage' ? 1 : ends.length;
  if (error !== undefined && ends.length - errors.size < needed) throw unusable(service, credential, error);
  if (error !== undefined) warnings.push(error);
  if (leaf === undefined) throw unusable(service, credential, 'it has no certificate');
  if (credential.identity === 'ours') {
    const difference = differenceOf(leaf, credential);
    if (difference !== undefined) throw unusable(service, credential, difference);
  }
  return { leaf, warnings };
}

/** What of a certificate is not as desired; undefined where all is. */
function differenceOf(leaf: Certificate, { subject, names }: DesiredCredential): string | undefined {
  const commonName = nameAttribute(leaf.subject, OID.commonName);
  const organization = nameAttribute(leaf.subject, OID.organizationName);
  if (commonName !== subject.commonName) return `its common name is ${commonName ?? 'missing'}`;
  if (organization !== subject.organization) return `its organization is ${organization ?? 'missing'}`;
  const has = new Set((leaf.extensions.subjectAltName?.names ?? []).map(nameKey));
  const wanted = new Set(generalNamesOf(names).map(nameKey));
  const missing = [...wanted].filter((name) => !has.has(name));
  if (missing.length > 0) return `it lacks ${missing.join(', ')}`;
  const more = [...has].filter((name) => !wanted.has(name));
  return more.length > 0 ? `it is also for ${more.join(', ')}` : undefined;
}

/** Names as they go into subjectAltName. */
function generalNamesOf({ dns, addresses }: SubjectAltNames): GeneralName[] {
  return [
    ...dns.map((value) => ({ kind: 'dns', value }) as const),
    ...addresses.map((value) => ({ kind: 'ip', value: canonicalIpAddress(value) }) as const),
  ];
}

function nameKey(name: GeneralName): string {
  return name.kind === 'dns' || name.kind === 'ip' ? `${name.kind}:${name.value.toLowerCase()}` : name.kind;
}

function unexpected(service: Service, reason: string): TrustError {
  return new TrustError(
    'certificate.unexpected',
    'invalid',
    `cannot use the certificate given for ${service}: ${reason}`,
    { context: { service } },
  );
}

function unusable(service: Service, credential: DesiredCredential, reason: string): TrustError {
  return new TrustError('generation.unusable', 'failed', `cannot serve the files of ${service}: ${reason}`, {
    context: { service },
    ...(credential.identity === 'found'
      ? {
          hint: `the certificate or key that was found for ${service} is no good; mend it, or pass the gate \`serve\` so that ours is served`,
        }
      : {}),
  });
}
