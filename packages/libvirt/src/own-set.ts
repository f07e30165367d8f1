import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import { DerReader, TAG } from '@virt-trust/pki/der/reader.ts';
import type { Finding, SetPart, TlsRole } from './certificate-use.ts';
import { type Checker, type CheckerRules, rulesOf } from './checker.ts';
import {
  type GnutlsCertificate,
  readGnutlsCertificatePem,
  readGnutlsCertificates,
} from './gnutls/certificate.ts';
import { type GnutlsCrl, readGnutlsCrls } from './gnutls/crl.ts';
import { findBlock, untilNul } from './gnutls/pem.ts';
import { isAlgorithmOf, isKeyOf, readGnutlsPrivateKey } from './gnutls/private-key.ts';
import { checkCertificates } from './sanity.ts';

/** A file as the program that reads it finds it; a link that leads nowhere is missing. */
export type FileState =
  | { readonly kind: 'missing' }
  /** It is there, but it cannot be read: `reason` as the system says it. */
  | {
      readonly kind: 'unreadable';
      readonly reason: string;
      /** A directory on the way is closed: whether it is there cannot be told. */
      readonly hidden?: boolean;
    }
  /** One character an octet. */
  | { readonly kind: 'text'; readonly text: string };

/** The files of one side of TLS. */
export interface SetFiles {
  readonly ca: FileState;
  readonly crl: FileState;
  readonly certificate: FileState;
  readonly key: FileState;
  readonly dhParameters: FileState;
}

/** What was found in a set, and what could be read of it. */
export interface JudgedSet {
  readonly findings: readonly Finding[];
  readonly authorities: readonly GnutlsCertificate[];
  readonly certificates: readonly GnutlsCertificate[];
  readonly crls: readonly GnutlsCrl[];
}

const PART_NAMES: Readonly<Record<SetPart, string>> = {
  ca: 'CA file',
  crl: 'CRL',
  certificate: 'certificate file',
  key: 'key file',
  'dh-params': 'file of DH parameters',
};

/**
 * Judges the files of a server or client as the program does that loads them: the check of its certificates first
 * (checkCertificates), then what GnuTLS demands of each file (virNetTLSContextLoadCredentials of libvirt's
 * src/rpc/virnettlscontext.c, qcrypto_tls_creds_x509_load of QEMU's crypto/tlscredsx509.c).
 */
export function judgeOwnSet(files: SetFiles, role: TlsRole, checker: Checker, at: Instant): JudgedSet {
  return new OwnSet(files, role, rulesOf(checker), at).judge();
}

class OwnSet {
  readonly #files: SetFiles;
  readonly #role: TlsRole;
  readonly #rules: CheckerRules;
  readonly #at: Instant;
  readonly #findings: Finding[] = [];

  constructor(files: SetFiles, role: TlsRole, rules: CheckerRules, at: Instant) {
    this.#files = role === 'client' && rules.program === 'libvirt' ? withoutHidden(files) : files;
    this.#role = role;
    this.#rules = rules;
    this.#at = at;
  }

  judge(): JudgedSet {
    const authorities = this.#readAuthorities();
    const certificates = this.#readCertificates();
    this.#findings.push(
      ...checkCertificates({
        role: this.#role,
        authorities,
        // A certificate without its key is not used, yet it is checked.
        certificates: this.#rules.chainInCertificateFile ? certificates : certificates.slice(0, 1),
        at: this.#at,
        rules: this.#rules,
      }),
    );
    const crls = this.#readCrls();
    this.#checkKey(certificates[0]);
    this.#checkDhParameters();
    return { findings: this.#findings, authorities, certificates, crls };
  }

  #error(code: string, part: SetPart, message: string): void {
    this.#findings.push({ severity: 'error', code, message, part });
  }

  /** The text, where the file is one; tells where a file that is needed is not there or cannot be read. */
  #textOf(part: 'ca' | 'certificate' | 'key' | 'crl', needed: boolean): string | undefined {
    const state = this.#files[part];
    if (state.kind === 'text') return state.text;
    if (state.kind === 'unreadable') {
      this.#error('files.unreadable', part, `the ${PART_NAMES[part]} cannot be read: ${state.reason}`);
    } else if (needed) this.#error('files.missing', part, `there is no ${PART_NAMES[part]}`);
    return undefined;
  }

  #checkSize(part: 'ca' | 'certificate', text: string): boolean {
    if (text.length <= this.#rules.fileLimit) return true;
    const limit = this.#rules.fileLimit;
    this.#error(
      'files.too_large',
      part,
      `the ${PART_NAMES[part]} has ${text.length} bytes, more than ${limit}`,
    );
    return false;
  }

  #attempt<T>(part: SetPart, code: string, read: () => T): T | undefined {
    try {
      return read();
    } catch (error) {
      if (!isTrustError(error)) throw error;
      this.#error(code, part, `the ${PART_NAMES[part]} cannot be used: ${error.message}`);
      return undefined;
    }
  }

  #readAuthorities(): readonly GnutlsCertificate[] {
    const text = this.#textOf('ca', true);
    if (text === undefined || !this.#checkSize('ca', text)) return [];
    const all = Number.POSITIVE_INFINITY;
    const checked = this.#attempt('ca', 'files.malformed', () => readGnutlsCertificates(untilNul(text), all));
    if (checked === undefined) return [];
    // What stands behind a NUL is not checked at start, but it is loaded.
    if (!text.includes('\0')) return checked;
    return this.#attempt('ca', 'files.malformed', () => readGnutlsCertificates(text, all)) === undefined
      ? []
      : checked;
  }

  #readCertificates(): readonly GnutlsCertificate[] {
    const isServer = this.#role === 'server';
    const text = this.#textOf('certificate', isServer);
    if (text === undefined || !this.#checkSize('certificate', text)) return [];
    const leaf = this.#attempt('certificate', 'files.malformed', () =>
      readGnutlsCertificatePem(untilNul(text)),
    );
    if (leaf === undefined) return [];
    // Without its key a client's certificate is not loaded.
    if (!isServer && this.#files.key.kind === 'missing') return [leaf];
    const all = this.#attempt('certificate', 'files.malformed', () =>
      readGnutlsCertificates(text, Number.POSITIVE_INFINITY),
    );
    return all ?? [leaf];
  }

  #readCrls(): readonly GnutlsCrl[] {
    if (this.#role === 'client' && !this.#rules.clientReadsCrl) return [];
    const text = this.#textOf('crl', false);
    if (text === undefined) return [];
    return this.#attempt('crl', 'crl.malformed', () => readGnutlsCrls(text)) ?? [];
  }

  #checkKey(leaf: GnutlsCertificate | undefined): void {
    const { certificate, key } = this.#files;
    const isClient = this.#role === 'client';
    if (isClient && (certificate.kind === 'missing' || key.kind === 'missing')) {
      if (certificate.kind !== key.kind && (certificate.kind === 'missing' || key.kind === 'missing')) {
        const [there, missing] = key.kind === 'missing' ? ['certificate', 'key'] : ['key', 'certificate'];
        this.#findings.push({
          severity: this.#rules.halfIdentityRefused ? 'error' : 'warning',
          code: 'files.half_identity',
          message: `the client's ${there} is there without its ${missing}, so that it is not used`,
          part: key.kind === 'missing' ? 'key' : 'certificate',
        });
      }
      return;
    }
    const text = this.#textOf('key', true);
    if (text === undefined) return;
    const read = readGnutlsPrivateKey(text);
    if (read.kind === 'refused') {
      this.#error(
        read.encrypted ? 'key.encrypted' : 'key.malformed',
        'key',
        `the key cannot be used: ${read.reason}`,
      );
    } else if (read.kind === 'mute') {
      const message = `handshakes fail although the key is loaded: ${read.reason}`;
      if (leaf !== undefined && !isAlgorithmOf(read.algorithm, leaf.spki)) this.#mismatch();
      else this.#findings.push({ severity: 'warning', code: 'key.cannot_sign', message, part: 'key' });
    } else if (leaf !== undefined && !isKeyOf(read.key, leaf.spki)) this.#mismatch();
  }

  #mismatch(): void {
    this.#error('key.mismatch', 'key', 'the key does not belong to the certificate');
  }

  /** QEMU's server alone reads them (qcrypto_tls_creds_get_dh_params_file). */
  #checkDhParameters(): void {
    if (this.#rules.program !== 'qemu' || this.#role !== 'server') return;
    const state = this.#files.dhParameters;
    if (state.kind === 'unreadable') {
      this.#error('files.unreadable', 'dh-params', `the DH parameters cannot be read: ${state.reason}`);
    } else if (state.kind === 'text' && !areDhParameters(state.text)) {
      this.#error('dh_params.malformed', 'dh-params', 'the file of DH parameters holds none');
    }
  }
}

/** What libvirt's client cannot get at is not there to it (virFileExists in virNetTLSContextLocateCredentials). */
function withoutHidden(files: SetFiles): SetFiles {
  const { certificate, key, crl } = files;
  const seen = (state: FileState): FileState =>
    state.kind === 'unreadable' && state.hidden === true ? { kind: 'missing' } : state;
  return { ...files, certificate: seen(certificate), key: seen(key), crl: seen(crl) };
}

/** PKCS #3: prime and base (gnutls_dh_params_import_pkcs3). */
function areDhParameters(text: string): boolean {
  const block = findBlock(text, 'DH PARAMETERS');
  if (block.kind !== 'found') return false;
  try {
    const fields = DerReader.over(block.der, { what: 'DH parameters' }).sequence();
    fields.content(TAG.integer);
    fields.content(TAG.integer);
    return true;
  } catch {
    return false;
  }
}
