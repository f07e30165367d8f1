import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { parseInstant } from '@virt-trust/base/instant.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { checkOwnFiles } from './sanity.ts';
import { verifyPeer } from './session.ts';

interface SanityRow {
  readonly id: string;
  readonly isServer: boolean;
  readonly ca?: string;
  readonly cert?: string;
  readonly expect: 'accept' | 'reject';
}

interface SessionRow {
  readonly id: string;
  readonly hostname: string;
  readonly allowedDNs: readonly string[] | null;
  readonly serverCA: string;
  readonly clientCA: string;
  readonly serverCert: string;
  readonly clientCert: string;
  readonly serverRejectsClient: boolean;
  readonly clientRejectsServer: boolean;
}

const checker = { program: 'libvirt', version: '11.3.0' } as const;
const at = parseInstant('2026-11-02T00:00:00Z');

function readRows<Row>(name: string): Row[] {
  return JSON.parse(readFileSync(new URL(`../testdata/vectors/${name}`, import.meta.url), 'utf8')) as Row[];
}

/** The certificates, or none where GnuTLS and we cannot even read them. */
function read(text: string | undefined): Certificate[] {
  if (text === undefined) return [];
  try {
    return parseCertificates(text);
  } catch (error) {
    if (isTrustError(error)) return [];
    throw error;
  }
}

function rejects(check: () => unknown): boolean {
  try {
    check();
    return false;
  } catch (error) {
    if (isTrustError(error)) return true;
    throw error;
  }
}

const sanity = readRows<SanityRow>('libvirt-ctx.json');
const sessions = readRows<SessionRow>('libvirt-sess.json');

test('all vectors are there', () => {
  assert.deepEqual([sanity.length, sessions.length], [37, 15]);
});

for (const row of sanity) {
  test(`libvirt 11.3 would ${row.expect} its own files ${row.id}, and so do we`, () => {
    const findings = checkOwnFiles({
      role: row.isServer ? 'server' : 'client',
      caCertificates: read(row.ca),
      certificates: read(row.cert),
      at,
      checker,
    });
    const errors = findings.filter(({ severity }) => severity === 'error');
    assert.equal(errors.length > 0 ? 'reject' : 'accept', row.expect, JSON.stringify(findings));
  });
}

for (const row of sessions) {
  test(`in the handshake ${row.id} both ends judge the other as libvirt 11.3 does`, () => {
    const serverRejectsClient = rejects(() =>
      verifyPeer({
        role: 'client',
        presented: parseCertificates(row.clientCert),
        trusted: parseCertificates(row.serverCA),
        at,
        checker,
        allowedDistinguishedNames: row.allowedDNs ?? undefined,
      }),
    );
    const clientRejectsServer = rejects(() =>
      verifyPeer({
        role: 'server',
        presented: parseCertificates(row.serverCert),
        trusted: parseCertificates(row.clientCA),
        at,
        checker,
        hostName: row.hostname,
      }),
    );
    assert.deepEqual(
      { serverRejectsClient, clientRejectsServer },
      { serverRejectsClient: row.serverRejectsClient, clientRejectsServer: row.clientRejectsServer },
    );
  });
}
