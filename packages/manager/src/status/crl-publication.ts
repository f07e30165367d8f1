import { hash } from 'node:crypto';
import type { Authorities } from '../authorities/authorities.ts';
import type { StatusSource } from './status-source.ts';

/** A CRL ready to be sent. */
export interface CrlFile {
  readonly der: Buffer;
  readonly etag: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number;
}

/** The CRLs of the authorities as files, read from the store once for each change. */
export class CrlPublication {
  readonly #authorities: Pick<Authorities, 'list'>;
  readonly #source: StatusSource;
  readonly #files = new Map<string, CrlFile>();

  constructor(authorities: Pick<Authorities, 'list'>, source: StatusSource) {
    this.#authorities = authorities;
    this.#source = source;
    source.onChange((names) => {
      for (const name of names) this.#files.delete(name);
    });
  }

  /** Whether nothing is published for now: it would take revocations back. */
  get held(): boolean {
    return this.#source.isHeld();
  }

  /** The newest CRL of the authority of that name; undefined where there is no such authority or no CRL yet. */
  find(authority: string): CrlFile | undefined {
    const kept = this.#files.get(authority);
    if (kept !== undefined) return kept;
    // SECURITY: only names of authorities are looked up and kept.
    if (!this.#authorities.list().some(({ name }) => name === authority)) return undefined;
    const crl = this.#source.crlOf(authority);
    if (crl === null) return undefined;
    const { der, thisUpdate, nextUpdate } = crl;
    const file: CrlFile = {
      der: Buffer.from(der.buffer, der.byteOffset, der.length),
      etag: `"${hash('sha256', der, 'base64url')}"`,
      thisUpdate,
      nextUpdate,
    };
    this.#files.set(authority, file);
    return file;
  }
}
