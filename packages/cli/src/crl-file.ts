import { lstat, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';

/** SECURITY: what a file or server may make us read. */
const MAX_CRL_BYTES = 24 * 1024 * 1024;

/** Where libvirt's client looks for CRLs: `system` for root, `user` for everybody else. */
export function crlPath(scope: 'system' | 'user', home: string): string {
  return scope === 'system' ? '/etc/pki/CA/cacrl.pem' : join(home, '.pki/libvirt/cacrl.pem');
}

/** What is in the file now; null where there is none. Throws `crl.of_agent` where an agent keeps it. */
export async function readCrlFile(path: string): Promise<string | null> {
  try {
    if ((await lstat(path)).isSymbolicLink()) {
      throw new TrustError(
        'crl.of_agent',
        'conflict',
        `cannot install a CRL at ${path}: it is a link, as an agent makes it, which keeps the CRL there itself`,
        { hint: 'see where it leads with: readlink -f; this command is for machines without an agent' },
      );
    }
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Fetches what a URL serves; throws `crl.url` or `crl.not_fetched`. */
export async function fetchCrl(url: string): Promise<Uint8Array> {
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
    throw new TrustError('crl.url', 'invalid', `cannot fetch a CRL from ${url}: not an http or https URL`);
  }
  const fail = (reason: string, cause?: unknown) =>
    new TrustError('crl.not_fetched', 'unavailable', `cannot fetch the CRL from ${url}: ${reason}`, {
      ...(cause === undefined ? {} : { cause }),
    });
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(30_000) });
    if (!response.ok) throw fail(`the server answers ${response.status}`);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body ?? []) {
      size += chunk.length;
      if (size > MAX_CRL_BYTES) throw fail(`it is larger than ${MAX_CRL_BYTES} bytes`);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  } catch (error) {
    throw error instanceof TrustError ? error : fail(describeError(error), error);
  }
}
