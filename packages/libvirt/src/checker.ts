/** Whose rules are applied: certificates are judged differently by libvirt and QEMU, and by their versions. */
export interface Checker {
  readonly program: 'libvirt' | 'qemu';
  /** As the program tells it, `9.0.0` or `7.2.22`. */
  readonly version: string;
}

/** What differs between the programs and their versions. */
export interface CheckerRules {
  /** Keys for which a critical keyUsage must hold keyEncipherment. */
  readonly keyEnciphermentFor: 'all' | 'all-but-ec' | 'none';
  /** Which certificates of the file are checked as authorities at start. */
  readonly authoritiesChecked: 'all' | 'on-path';
  /** Whether a peer's basicConstraints, keyUsage and extKeyUsage are looked at, not only its chain and names. */
  readonly checksPeerUsage: boolean;
}

/**
 * The rules of a libvirt or QEMU. Where a change went into stable branches as well, the first release that has it
 * for certain counts: what passes here passes there.
 */
export function rulesOf({ program, version }: Checker): CheckerRules {
  if (program === 'libvirt') {
    const lenient = isAtLeast(version, 11, 6);
    return {
      keyEnciphermentFor: lenient ? 'all-but-ec' : 'all',
      authoritiesChecked: 'all',
      checksPeerUsage: true,
    };
  }
  const recent = isAtLeast(version, 10, 2);
  return {
    keyEnciphermentFor: recent ? 'none' : 'all',
    authoritiesChecked: recent ? 'on-path' : 'all',
    checksPeerUsage: false,
  };
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const parts = /^(\d{1,4})\.(\d{1,4})/.exec(version);
  if (parts === null) return false;
  const [ownMajor, ownMinor] = [Number(parts[1]), Number(parts[2])];
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
