/** Whose rules are applied: certificates are judged differently by libvirt and QEMU, and by their versions. */
export interface Checker {
  readonly program: 'libvirt' | 'qemu';
  /** As the program tells it, `9.0.0` or `7.2.22`. */
  readonly version: string;
}

/** What differs between the programs and their versions. */
export interface CheckerRules {
  readonly program: Checker['program'];
  /** Keys for which a critical keyUsage must hold keyEncipherment; of a series alone it may be only its older releases. */
  readonly keyEnciphermentFor: 'all' | 'all-but-ec' | 'all-in-older-releases' | 'none';
  /** Which purposes allow both ends of TLS: to QEMU any, to libvirt those that neither it nor TLS knows. */
  readonly bothEnds: 'any-purpose' | 'unknown-purposes';
  /** Which certificates of the CA file are checked as authorities at start. */
  readonly authoritiesChecked: 'all' | 'on-path';
  /** How many certificates of the CA file the check at start looks at. */
  readonly authoritiesRead: number;
  /** Whether the certificates behind the leaf belong to the chain that is checked at start. */
  readonly chainInCertificateFile: boolean;
  /** The most octets of a file that the check at start reads. */
  readonly fileLimit: number;
  /** Whether a client's certificate without its key, or the reverse, is an error and not passed over. */
  readonly halfIdentityRefused: boolean;
  /** Whether further identities with a number are read. */
  readonly numberedIdentities: boolean;
  /** Whether the client's side reads the CRL. */
  readonly clientReadsCrl: boolean;
  /** Whether a peer's basicConstraints, keyUsage and extKeyUsage are looked at, not only its chain and names. */
  readonly checksPeerUsage: boolean;
}

/** Whether the rules of this version were held against the program itself; others go by its source. */
export function isTriedVersion({ program, version }: Checker): boolean {
  return program === 'libvirt' ? /^9\.0\./.test(version) : version === '7.2.22';
}

/** The rules of a libvirt or QEMU. Where its version cannot be read, those of the oldest. */
export function rulesOf({ program, version }: Checker): CheckerRules {
  if (program === 'libvirt') {
    return {
      program,
      // virNetTLSCertCheckKeyUsage, src/rpc/virnettlscert.c of 11.6.
      keyEnciphermentFor: isAtLeast(version, 11, 6) ? 'all-but-ec' : 'all',
      bothEnds: 'unknown-purposes',
      authoritiesChecked: 'all',
      authoritiesRead: 16,
      chainInCertificateFile: false,
      fileLimit: 1 << 16,
      // virNetTLSConfigCheckIdentity, src/rpc/virnettlsconfig.c, which came with virt-pki-validate in C.
      halfIdentityRefused: isAtLeast(version, 10, 5),
      numberedIdentities: isAtLeast(version, 11, 10),
      clientReadsCrl: true,
      checksPeerUsage: true,
    };
  }
  const chains = isAtLeast(version, 10, 2);
  return {
    program,
    keyEnciphermentFor: keyEnciphermentOf(version),
    bothEnds: 'any-purpose',
    // crypto/tlscredsx509.c of 10.2: "only verify CA certs in chain of trust", "allow client/server cert chains".
    authoritiesChecked: chains ? 'on-path' : 'all',
    // "load all certificates in X509 CA file", 10.1.
    authoritiesRead: isAtLeast(version, 10, 1) ? Number.POSITIVE_INFINITY : 16,
    chainInCertificateFile: chains,
    fileLimit: Number.POSITIVE_INFINITY,
    halfIdentityRefused: chains,
    numberedIdentities: chains,
    clientReadsCrl: false,
    checksPeerUsage: false,
  };
}

/** QEMU's "stop requiring key encipherment usage in x509 certs" went into 10.2 and the stable branches named here. */
function keyEnciphermentOf(version: string): CheckerRules['keyEnciphermentFor'] {
  if (isAtLeast(version, 10, 2)) return 'none';
  const stable: readonly (readonly [branch: string, from: number])[] = [
    ['7.2', 22],
    ['10.0', 7],
    ['10.1', 3],
  ];
  const [, branch, release] = /^(\d{1,4}\.\d{1,4})(?:\.(\d{1,4}))?/.exec(version) ?? [];
  const from = stable.find(([series]) => series === branch)?.[1];
  if (from === undefined) return 'all';
  if (release === undefined) return 'all-in-older-releases';
  return Number(release) >= from ? 'none' : 'all';
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const parts = /^(\d{1,4})\.(\d{1,4})/.exec(version);
  if (parts === null) return false;
  const [ownMajor, ownMinor] = [Number(parts[1]), Number(parts[2])];
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
