import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Certificate } from './certificate.ts';
import type { KeyPurpose } from './extensions.ts';
import type { HostName } from './general-name.ts';
import { formatName, namesEqual } from './name.ts';
import { type Conformance, checkPath, type PathDemands, refusePath } from './path-check.ts';
import { verifySignature } from './signature.ts';

/** What `verifyPath` looks at and for. */
export interface PathQuestion {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
  /** Trusted authorities; their own dates and constraints count too. */
  readonly anchors: readonly Certificate[];
  readonly at: Instant;
  readonly purpose: KeyPurpose;
  /** The host that the leaf has to be for; not looked at where left out. */
  readonly peerName?: HostName;
  /** Authorities between anchor and leaf at most; 6 where left out. */
  readonly maxIntermediates?: number;
  /** `strict` where left out. */
  readonly conformance?: Conformance;
}

/** Evidence that a leaf is trusted: the path, anchor first, and what it was verified for. */
export interface VerifiedPath {
  readonly certificates: readonly Certificate[];
  readonly anchor: Certificate;
  readonly leaf: Certificate;
  readonly at: Instant;
  readonly purpose: KeyPurpose;
  readonly peerName: HostName | undefined;
}

const DEFAULT_MAX_INTERMEDIATES = 6;
/** SECURITY: bounds on the search, so that many certificates of one name cannot keep the verifier busy. */
const MAX_SIGNATURES = 64;
const MAX_PATHS = 32;

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

/** RFC 5280 §4.2.1.1: key identifiers only tell which issuer to try first. */
function identifierAgrees(certificate: Certificate, issuer: Certificate): boolean {
  const wanted = certificate.extensions.authorityKeyIdentifier?.keyIdentifier;
  const offered = issuer.extensions.subjectKeyIdentifier?.keyIdentifier;
  return wanted === undefined || offered === undefined || sameBytes(wanted, offered);
}

/** Which of two refusals says more: one of a whole path, then one of a signature, then that none was found. */
function weight(error: TrustError): number {
  if (error.code === 'path.no_issuer') return 0;
  if (error.code === 'path.too_long' || error.code === 'path.too_complex') return 1;
  return error.code === 'path.signature' ? 2 : 3;
}

class Search {
  readonly #question: PathQuestion;
  readonly #demands: PathDemands;
  readonly #maxIntermediates: number;
  #signatures = 0;
  #paths = 0;
  #refusal: TrustError | undefined;

  constructor(question: PathQuestion) {
    this.#question = question;
    this.#maxIntermediates = question.maxIntermediates ?? DEFAULT_MAX_INTERMEDIATES;
    this.#demands = {
      at: question.at,
      purpose: question.purpose,
      peerName: question.peerName,
      conformance: question.conformance ?? 'strict',
    };
  }

  run(): VerifiedPath {
    const { leaf, at, purpose, peerName } = this.#question;
    const certificates = this.#extend([leaf]);
    if (certificates === undefined) {
      const reason = `no trusted authority with the name ${formatName(leaf.issuer)}`;
      const hint = 'Give the intermediate certificates, or add the authority to those that are trusted.';
      throw this.#refusal ?? refusePath('no_issuer', leaf, reason, hint);
    }
    return { certificates, anchor: certificates[0] as Certificate, leaf, at, purpose, peerName };
  }

  #note(error: TrustError): void {
    if (this.#refusal === undefined || weight(error) > weight(this.#refusal)) this.#refusal = error;
  }

  #attempt(step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      if (!isTrustError(error)) throw error;
      this.#note(error);
      return false;
    }
  }

  #signedBy(certificate: Certificate, issuer: Certificate): boolean {
    return this.#attempt(() => {
      if (++this.#signatures > MAX_SIGNATURES) {
        throw refusePath('too_complex', certificate, `more than ${MAX_SIGNATURES} signatures to verify`);
      }
      try {
        verifySignature(certificate.tbs, certificate, issuer.publicKey, 'certificate');
      } catch (cause) {
        if (!isTrustError(cause)) throw cause;
        if (cause.code === 'signature.invalid') {
          throw refusePath('signature', certificate, `it was not signed by ${formatName(issuer.subject)}`);
        }
        throw refusePath('weak_signature', certificate, cause.message);
      }
    });
  }

  /** Candidates of the right name, those with the right key identifier first. */
  #issuersOf(certificate: Certificate, among: readonly Certificate[]): Certificate[] {
    const named = among.filter((candidate) => namesEqual(candidate.subject, certificate.issuer));
    const agreeing = named.filter((candidate) => identifierAgrees(certificate, candidate));
    return [...agreeing, ...named.filter((candidate) => !agreeing.includes(candidate))];
  }

  /** Extends a path, anchor side first, to one that is trusted; undefined where there is none. */
  #extend(path: readonly Certificate[]): readonly Certificate[] | undefined {
    const top = path[0] as Certificate;
    for (const anchor of this.#issuersOf(top, this.#question.anchors)) {
      if (this.#paths >= MAX_PATHS) return undefined;
      if (!this.#signedBy(top, anchor)) continue;
      this.#paths++;
      const whole = [anchor, ...path];
      if (this.#attempt(() => checkPath(whole, this.#demands))) return whole;
    }
    const issuers = this.#issuersOf(top, this.#question.intermediates);
    if (issuers.length > 0 && path.length > this.#maxIntermediates) {
      this.#note(
        refusePath('too_long', top, `more than ${this.#maxIntermediates} authorities above the leaf`),
      );
      return undefined;
    }
    for (const issuer of issuers) {
      if (this.#signatures >= MAX_SIGNATURES || this.#paths >= MAX_PATHS) return undefined;
      const looped = path.some(
        (other) => sameBytes(other.spki, issuer.spki) && namesEqual(other.subject, issuer.subject),
      );
      if (looped || !this.#signedBy(top, issuer)) continue;
      const found = this.#extend([issuer, ...path]);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/**
 * Verifies that a path leads from a trusted authority to the leaf (RFC 5280 §6) and returns it as evidence;
 * throws `path.*`, the most telling refusal of those met. Revocation is not part of it.
 */
export function verifyPath(question: PathQuestion): VerifiedPath {
  return new Search(question).run();
}
