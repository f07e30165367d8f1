import { createHash, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { type Instant, NEVER } from '@virt-trust/base/instant.ts';
import { pinOfSpki, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { encodeTime } from '@virt-trust/pki/der/time.ts';
import {
  bitString,
  explicit,
  octetString,
  oid,
  sequence,
  setOfOne,
  smallInteger,
  utf8String,
} from '@virt-trust/pki/der/writer.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { ChannelRole } from './alpn.ts';
import { type ChannelIdentity, loadChannelIdentity } from './identity.ts';

/** For tests: an identity whose certificate says what the test wants, true or not. */
export function identityOf<Role extends ChannelRole>(
  role: Role,
  { subject = 'fixture', notBefore = 0 as Instant, notAfter = NEVER, padding = 0 } = {},
): ChannelIdentity<Role> {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const algorithm = sequence(oid(OID.ecdsaWithSha256));
  const name = sequence(setOfOne(sequence(oid(OID.commonName), utf8String(subject))));
  const tbs = sequence(
    explicit(0, smallInteger(2)),
    smallInteger(randomBytes(3).readUIntBE(0, 3)),
    algorithm,
    name,
    sequence(encodeTime(notBefore), encodeTime(notAfter)),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    // An extension of a private enterprise, as large as the test wants.
    explicit(3, sequence(sequence(oid('1.3.6.1.4.1.99999.1'), octetString(new Uint8Array(padding))))),
  );
  const certificate = sequence(tbs, algorithm, bitString(sign('sha256', tbs, privateKey)));
  return loadChannelIdentity({
    role,
    certificatePem: encodePem('CERTIFICATE', certificate),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  });
}

/** For tests: a well-formed pin that no key has. */
export function madeUpPin(of: string): SpkiPin {
  return pinOfSpki(createHash('sha256').update(of).digest());
}
