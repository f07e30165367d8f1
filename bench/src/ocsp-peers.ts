import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { encodeCertId, issuerHashes } from '@virt-trust/pki/ocsp-cert-id.ts';
import { encodeOcspRequest } from '@virt-trust/pki/ocsp-request.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { type RunningChild, startServer } from './child.ts';
import { makeAuthority } from './issuance-peers.ts';
import { freePort, takesConnections } from './ports.ts';

/** A peer that answers, and what it can be asked, in base64. */
export interface Peer extends RunningChild {
  readonly port: number;
  readonly requests: readonly string[];
}

/** `openssl ocsp` over an index of certificates of its own authority, EC P-256; it signs every answer. */
export async function startOpensslOcsp(directory: string, count: number): Promise<Peer> {
  makeAuthority(directory);
  const [issuer] = parseCertificates(readFileSync(join(directory, 'ca.pem'), 'utf8'));
  if (issuer === undefined) throw new RangeError('no authority');
  const serials = Array.from({ length: count }, (_, index) =>
    parseSerialNumber((0x4000_0000 + index).toString(16)),
  );
  const lines = serials.map(
    (serial) => `V\t991231235959Z\t\t${serial.toUpperCase()}\tunknown\t/CN=${serial}`,
  );
  writeFileSync(join(directory, 'index.txt'), `${lines.join('\n')}\n`);
  const hashes = issuerHashes(issuer, 'sha1');
  const requests = serials.map((serial) =>
    Buffer.from(encodeOcspRequest([encodeCertId(hashes, serial)])).toString('base64'),
  );
  const port = await freePort();
  const [ca, key] = [join(directory, 'ca.pem'), join(directory, 'ca-key.pem')];
  const child = await startServer(
    'openssl',
    [
      ...['ocsp', '-port', String(port), '-index', join(directory, 'index.txt'), '-nmin', '60'],
      ...['-CA', ca, '-rsigner', ca, '-rkey', key],
    ],
    // A connection without a request on it keeps this server busy for ever, so it is asked something.
    () => answers(port, requests[0] ?? ''),
  );
  return { port, requests, stop: child.stop };
}

async function answers(port: number, request: string): Promise<boolean> {
  const headers = { 'content-type': 'application/ocsp-request', connection: 'close' };
  const body = Buffer.from(request, 'base64');
  try {
    const response = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', headers, body });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    await delay(20);
    return false;
  }
}

/** `cfssl ocspserve` over answers that were signed before, each on a line in base64. */
export async function startCfsslOcsp(
  directory: string,
  signed: readonly string[],
): Promise<RunningChild & { readonly port: number }> {
  const file = join(directory, 'answers.txt');
  writeFileSync(file, `${signed.join('\n')}\n`);
  const port = await freePort();
  const child = await startServer(
    'cfssl',
    ['ocspserve', '-address', '127.0.0.1', '-port', String(port), '-responses', file, '-loglevel', '5'],
    () => takesConnections(port),
  );
  return { port, stop: child.stop };
}
