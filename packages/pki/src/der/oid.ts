/** Every object identifier that the package knows, in dotted form (RFC 5280 appendix A, RFC 5480, RFC 6960, RFC 8410). */
export const OID = {
  commonName: '2.5.4.3',
  serialNumberAttribute: '2.5.4.5',
  countryName: '2.5.4.6',
  localityName: '2.5.4.7',
  stateOrProvinceName: '2.5.4.8',
  streetAddress: '2.5.4.9',
  organizationName: '2.5.4.10',
  organizationalUnitName: '2.5.4.11',
  userId: '0.9.2342.19200300.100.1.1',
  domainComponent: '0.9.2342.19200300.100.1.25',
  emailAddress: '1.2.840.113549.1.9.1',
  extensionRequest: '1.2.840.113549.1.9.14',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  issuerAltName: '2.5.29.18',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  crlNumber: '2.5.29.20',
  reasonCode: '2.5.29.21',
  holdInstructionCode: '2.5.29.23',
  invalidityDate: '2.5.29.24',
  deltaCrlIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
  certificateIssuer: '2.5.29.29',
  freshestCrl: '2.5.29.46',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  authorityKeyIdentifier: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  authorityInfoAccess: '1.3.6.1.5.5.7.1.1',
  accessOcsp: '1.3.6.1.5.5.7.48.1',
  accessCaIssuers: '1.3.6.1.5.5.7.48.2',
  ocspBasic: '1.3.6.1.5.5.7.48.1.1',
  ocspNonce: '1.3.6.1.5.5.7.48.1.2',
  ocspResponseTypes: '1.3.6.1.5.5.7.48.1.4',
  ocspNoCheck: '1.3.6.1.5.5.7.48.1.5',
  ocspServiceLocator: '1.3.6.1.5.5.7.48.1.7',
  ocspPreferredSignatureAlgorithms: '1.3.6.1.5.5.7.48.1.8',
  ocspExtendedRevoke: '1.3.6.1.5.5.7.48.1.9',
  signedCertificateTimestamps: '1.3.6.1.4.1.11129.2.4.5',
  anyExtendedKeyUsage: '2.5.29.37.0',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  ocspSigning: '1.3.6.1.5.5.7.3.9',
  sha1: '1.3.14.3.2.26',
  sha256: '2.16.840.1.101.3.4.2.1',
  ecPublicKey: '1.2.840.10045.2.1',
  prime256v1: '1.2.840.10045.3.1.7',
  secp384r1: '1.3.132.0.34',
  secp521r1: '1.3.132.0.35',
  ed25519: '1.3.101.112',
  rsaEncryption: '1.2.840.113549.1.1.1',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ecdsaWithSha384: '1.2.840.10045.4.3.3',
  ecdsaWithSha512: '1.2.840.10045.4.3.4',
  sha1WithRsa: '1.2.840.113549.1.1.5',
  sha256WithRsa: '1.2.840.113549.1.1.11',
  sha384WithRsa: '1.2.840.113549.1.1.12',
  sha512WithRsa: '1.2.840.113549.1.1.13',
} as const;

const MAX_OCTETS = 64;

/** The content octets of a dotted object identifier (X.690 §8.19). */
export function encodeOid(dotted: string): Uint8Array {
  const arcs = dotted.split('.').map(Number);
  const values = [(arcs[0] ?? 0) * 40 + (arcs[1] ?? 0), ...arcs.slice(2)];
  const octets: number[] = [];
  for (const value of values) {
    const digits = [value % 128];
    for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) {
      digits.unshift((rest % 128) | 0x80);
    }
    octets.push(...digits);
  }
  return Uint8Array.from(octets);
}

/** FNV-1a, only to find the one candidate that is then compared octet by octet. */
function hashOf(octets: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < octets.length; index++) {
    hash = Math.imul(hash ^ (octets[index] as number), 0x01000193);
  }
  return hash;
}

const KNOWN = new Map<number, { readonly octets: Uint8Array; readonly dotted: string }>(
  Object.values(OID).map((dotted) => {
    const octets = encodeOid(dotted);
    return [hashOf(octets), { octets, dotted }];
  }),
);

function knownOid(octets: Uint8Array): string | undefined {
  const known = KNOWN.get(hashOf(octets));
  if (known === undefined || known.octets.length !== octets.length) return undefined;
  for (let index = 0; index < octets.length; index++) {
    if (known.octets[index] !== octets[index]) return undefined;
  }
  return known.dotted;
}

/** The dotted form of the content octets, or undefined where they are malformed, too long or out of range. */
export function decodeOid(octets: Uint8Array): string | undefined {
  if (octets.length === 0 || octets.length > MAX_OCTETS) return undefined;
  const known = knownOid(octets);
  if (known !== undefined) return known;
  const arcs: number[] = [];
  let value = 0;
  let started = false;
  for (const octet of octets) {
    // X.690 §8.19.2: the fewest octets, so none may begin with 0x80.
    if (!started && octet === 0x80) return undefined;
    started = true;
    value = value * 128 + (octet & 0x7f);
    if (value > Number.MAX_SAFE_INTEGER) return undefined;
    if (octet < 0x80) {
      arcs.push(value);
      value = 0;
      started = false;
    }
  }
  if (started) return undefined;
  const head = arcs[0] as number;
  const root = Math.min(2, Math.floor(head / 40));
  return [root, head - root * 40, ...arcs.slice(1)].join('.');
}
