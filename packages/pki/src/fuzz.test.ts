import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import fc from 'fast-check';
import { parseCertificate, parseCertificates } from './certificate.ts';
import { formatGeneralName, parseHostName } from './general-name.ts';
import { formatIpOctets, ipAddressOctets } from './ip-address.ts';
import { generatePrivateKey, parsePrivateKeyPem } from './key.ts';
import { encodeName, formatName, parseName } from './name.ts';
import { parseNameSubtree } from './name-constraints.ts';
import { verifyPath } from './path.ts';
import { decodePem, encodePem } from './pem.ts';
import { parsePublicKeyInfo } from './public-key-info.ts';
import { createCertificationRequest, parseCertificationRequest, verifyProofOfPossession } from './request.ts';
import { parseSerialNumber } from './serial-number.ts';
import { NOW } from './test-support.ts';
import { encodeWrapperCertificate } from './wrapper.ts';

/** Runs the parser; anything but a result or a TrustError fails the test. */
function survives(parse: () => unknown): void {
  try {
    parse();
  } catch (error) {
    if (!isTrustError(error)) throw error;
  }
}

const seeds: Uint8Array[] = [];
let request: Uint8Array;

before(async () => {
  const vectors = readFileSync(new URL('testdata/x509-limbo.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n');
  for (const line of vectors) {
    const { id, leaf, inter } = JSON.parse(line) as { id: string; leaf: string; inter: string[] };
    if (id.includes('pathological')) continue;
    for (const pem of [leaf, ...inter]) for (const block of decodePem(pem)) seeds.push(block.bytes);
  }
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  seeds.push(encodeWrapperCertificate({ key, subjectCommonName: 'fuzz', randomness: systemRandomness }));
  request = createCertificationRequest({
    privateKey: key,
    subject: encodeName({ organization: 'o', commonName: 'c' }),
    sans: [parseHostName('a.example'), parseHostName('192.0.2.1')],
  });
});

/** A few octets changed, cut out or put in. */
function mutate(bytes: Uint8Array, edits: readonly (readonly [number, number, number])[]): Uint8Array {
  const list = [...bytes];
  for (const [place, kind, value] of edits) {
    const at = place % Math.max(1, list.length);
    if (kind === 0) list[at] = value;
    else if (kind === 1) list.splice(at, 1 + (value & 3));
    else list.splice(at, 0, value);
  }
  return Uint8Array.from(list);
}

const edits = fc.array(fc.tuple(fc.nat(4000), fc.nat(2), fc.nat(255)), { minLength: 1, maxLength: 4 });

test('parsers of DER answer any bytes with a value or a TrustError', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const parse of [parseCertificate, parseCertificationRequest, parseName, parsePublicKeyInfo]) {
        survives(() => parse(bytes));
      }
    }),
    { numRuns: 1000 },
  );
});

test('damaged certificates are parsed or refused, and never verified by another authority', () => {
  fc.assert(
    fc.property(fc.nat(10_000), edits, (pick, changes) => {
      const seed = seeds[pick % seeds.length] as Uint8Array;
      survives(() => {
        const certificate = parseCertificate(mutate(seed, changes));
        formatName(certificate.subject);
        certificate.extensions.subjectAltName?.names.forEach(formatGeneralName);
        const list = [certificate];
        verifyPath({ leaf: certificate, intermediates: list, anchors: list, at: NOW, purpose: 'serverAuth' });
      });
    }),
    { numRuns: 3000 },
  );
});

test('RFC 2986 §4: a damaged request proves possession only where the signed bytes are the same', async () => {
  await fc.assert(
    fc.asyncProperty(edits, async (changes) => {
      const damaged = mutate(request, changes);
      try {
        const { request: proven } = await verifyProofOfPossession(parseCertificationRequest(damaged));
        assert.equal(Buffer.compare(proven.info, parseCertificationRequest(request).info), 0);
      } catch (error) {
        if (!isTrustError(error)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

test('parsers of text answer any text with a value or a TrustError', () => {
  const line = fc.oneof(
    fc.constantFrom(
      '-----BEGIN CERTIFICATE-----',
      '-----END CERTIFICATE-----',
      '-----BEGIN PRIVATE KEY-----',
    ),
    fc.constantFrom('-----END PRIVATE KEY-----', 'MIIB', 'AA==', 'Proc-Type: 4,ENCRYPTED', ''),
    fc.string({ unit: 'binary', maxLength: 40 }),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      const text = lines.join('\n');
      survives(() => decodePem(text));
      survives(() => parseCertificates(text));
      survives(() => parsePrivateKeyPem(text));
    }),
    { numRuns: 1000 },
  );
  const word = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 60 }),
    fc.stringMatching(/^[0-9a-f.:/*-]{0,45}$/),
  );
  fc.assert(
    fc.property(word, (text) => {
      for (const parse of [parseHostName, parseNameSubtree, parseSerialNumber, ipAddressOctets]) {
        survives(() => parse(text));
      }
    }),
    { numRuns: 2000 },
  );
});

test('RFC 7468 §2: any bytes come back from their PEM block', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (bytes) => {
      const [block] = decodePem(`comment\n${encodePem('X TEST', bytes)}after\n`);
      assert.equal(block?.label, 'X TEST');
      assert.equal(block?.line, 2);
      assert.equal(Buffer.compare(block?.bytes ?? new Uint8Array(0), bytes), 0);
    }),
  );
});

test('RFC 5952 §4: any address comes back from its canonical text', () => {
  const octets = fc.oneof(
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc
      .array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 })
      .map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(octets, (address) => {
      const text = formatIpOctets(address) ?? assert.fail('no text');
      assert.equal(Buffer.compare(ipAddressOctets(text) ?? new Uint8Array(0), address), 0, text);
    }),
  );
});
