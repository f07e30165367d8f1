import { lstat, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { PURPOSE_OF_SERVICE, type Service } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { parseCrl } from '@virt-trust/pki/crl.ts';
import { decodePem, encodePem, type PemBlock } from '@virt-trust/pki/pem.ts';
import { type Found, foundIdentity } from '../sets/found.ts';
import { attributesFor, LAYOUTS } from '../sets/layout.ts';
import type { Serving } from '../sets/serving.ts';
import type { Staging } from '../sets/staging.ts';
import { inTurn, removeFile, writeFileAtomic } from '../state/atomic-file.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import { type CrlRecord, crlDocument } from './record.ts';

/** Everybody may read a CRL, and a daemon that may not does not start. */
const ATTRIBUTES = attributesFor('all', 'file', 0);

/** The services that read a CRL. */
export const CRL_SERVICES: readonly Service[] = Object.values(LAYOUTS)
  .filter(({ crl }) => crl !== undefined)
  .map(({ service }) => service);

/** The files from which libvirt and QEMU read CRLs: one for each service, made of what is kept. */
export class CrlPlaces {
  readonly #found: Found;
  readonly #serving: Serving;
  readonly #staging: Staging;
  readonly #records: ReturnType<typeof crlDocument>;
  readonly #desired: Document<typeof DesiredState>;

  constructor(paths: AgentPaths, parts: { found: Found; serving: Serving; staging: Staging }) {
    this.#found = parts.found;
    this.#serving = parts.serving;
    this.#staging = parts.staging;
    this.#records = crlDocument(paths);
    this.#desired = new Document(paths.desiredState, DesiredState, 'Remove it and provision the host again.');
  }

  async records(): Promise<CrlRecord[]> {
    return (await this.#records.read())?.crls ?? [];
  }

  /** As the manager is told of them. */
  async installed(): Promise<InstalledCrl[]> {
    return (await this.records()).map(({ installed, pending }) => {
      const reasons = pending.map(({ service, reason }) => `${service}: ${reason}`).join('; ');
      return { ...installed, failure: reasons === '' ? null : reasons.slice(0, 1000) };
    });
  }

  /** Forgets all; the files go with the services that read them. */
  async forget(): Promise<void> {
    await this.#records.remove();
  }

  /**
   * Writes what a service shall read; whether that changed anything. The records are read within the turn, so that
   * whoever comes last writes the newest. A service that has no place yet gets its file when it is linked.
   */
  async write(service: Service): Promise<boolean> {
    if (LAYOUTS[service].crl === undefined) return false;
    const path = this.#serving.crlFile(service);
    return await inTurn(`${path} (CRL)`, async () => {
      if ((await lstat(dirname(path)).catch(() => undefined)) === undefined) return false;
      const content = await this.#content(service);
      if (await this.#isThere(path, content)) return false;
      if (content === undefined) await removeFile(path);
      else await writeFileAtomic(path, content, ATTRIBUTES);
      return true;
    });
  }

  /** The file of a service where it is not as it was written. */
  async disturbed(service: Service): Promise<string[]> {
    if (LAYOUTS[service].crl === undefined) return [];
    const path = this.#serving.crlFile(service);
    return (await this.#isThere(path, await this.#content(service))) ? [] : [path];
  }

  /** Whether a CRL that was found is none that libvirt or QEMU could load, so that it is left out. */
  async foundIsUnusable(service: Service): Promise<boolean> {
    const manifest = await this.#found.read();
    if (manifest === undefined || LAYOUTS[service].crl === undefined) return false;
    const content = await this.#found.content(manifest, foundIdentity(manifest, service).crl);
    return content !== undefined && crlsIn(content).length === 0;
  }

  async #isThere(path: string, content: string | undefined): Promise<boolean> {
    const status = await lstat(path).catch(() => undefined);
    if (content === undefined) return status === undefined;
    if (status === undefined || !status.isFile()) return false;
    const { mode, uid, gid } = ATTRIBUTES;
    if ((status.mode & 0o7777) !== mode || status.uid !== uid || status.gid !== gid) return false;
    return (await readFile(path, 'utf8')) === content;
  }

  /** Ours goes last: of two CRLs of one issuer GnuTLS obeys the last, whatever their numbers. */
  async #content(service: Service): Promise<string | undefined> {
    const own = (await this.records()).find(
      ({ installed }) => installed.purpose === PURPOSE_OF_SERVICE[service],
    );
    const found = await this.#foundCrls(service);
    const text = [...found, ...(own === undefined ? [] : [own.pem])].join('');
    return text === '' ? undefined : text;
  }

  /** What was found is honoured as long as the CA that was found is trusted. */
  async #foundCrls(service: Service): Promise<string[]> {
    const manifest = await this.#found.read();
    if (manifest === undefined) return [];
    const identity = foundIdentity(manifest, service);
    const content = await this.#found.content(manifest, identity.crl);
    if (content === undefined) return [];
    const ca = await this.#found.content(manifest, identity.ca);
    if (ca === undefined || !(await this.#trusts(service, ca))) return [];
    return crlsIn(content);
  }

  async #trusts(service: Service, foundCa: Buffer): Promise<boolean> {
    const desired = await this.#desired.read();
    const credential = desired?.credentials.find((one) => one.service === service);
    if (credential !== undefined && (credential.keepFoundTrust || credential.identity === 'found'))
      return true;
    const current = await this.#serving.current(service);
    if (current === undefined) return false;
    const { bundle } = await this.#staging.content(LAYOUTS[service], current);
    const served = new Set(parseCertificates(bundle ?? '').map(({ der }) => base64(der)));
    return blocksOf(foundCa).some(({ bytes }) => served.has(base64(bytes)));
  }
}

/** Every CRL of a found file that reads as one, written anew: any other would keep every daemon from starting. */
function crlsIn(content: Buffer): string[] {
  return blocksOf(content)
    .filter(({ label, bytes }) => label === 'X509 CRL' && isCrl(bytes))
    .map(({ label, bytes }) => encodePem(label, bytes));
}

function isCrl(bytes: Uint8Array): boolean {
  try {
    parseCrl(bytes);
    return true;
  } catch {
    return false;
  }
}

function blocksOf(content: Buffer): PemBlock[] {
  try {
    return decodePem(content.toString('latin1'));
  } catch {
    return [];
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
