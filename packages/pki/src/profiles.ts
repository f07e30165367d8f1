import { TrustError } from '@virt-trust/base/error.ts';
import type { KeyPurpose } from './extensions.ts';

/** What an end certificate is for, fit for the oldest libvirt and QEMU that will check it. */
export interface LeafProfile {
  readonly name: string;
  readonly purposes: readonly KeyPurpose[];
  /** Whether clients look for a host's name or address in it. */
  readonly names: 'required' | 'optional';
  /** `none` says that nobody asks whether it was revoked, id-pkix-ocsp-nocheck (RFC 6960 §4.2.2.2.1). */
  readonly statusCheck?: 'none';
}

/** The profiles of end certificates by name. */
export const LEAF_PROFILES = {
  /** libvirtd or virtproxyd, as seen by libvirt clients. */
  'libvirt-server': { name: 'libvirt-server', purposes: ['serverAuth'], names: 'required' },
  /** QEMU's migration: each host is now source (client), now destination (server). */
  migration: { name: 'migration', purposes: ['serverAuth', 'clientAuth'], names: 'required' },
  /** QEMU's VNC server. */
  'vnc-server': { name: 'vnc-server', purposes: ['serverAuth'], names: 'required' },
  /** QEMU's SPICE server, whose clients may compare its subject over renewals and migrations. */
  'spice-server': { name: 'spice-server', purposes: ['serverAuth'], names: 'required' },
  /** QEMU's backup jobs and disks over NBD: a host exports (server), and reads what others export (client). */
  storage: { name: 'storage', purposes: ['serverAuth', 'clientAuth'], names: 'required' },
  /** A client of libvirt for one task, valid for minutes. */
  'libvirt-client': { name: 'libvirt-client', purposes: ['clientAuth'], names: 'optional' },
  /** Who signs OCSP answers for an authority, valid for days. */
  'ocsp-responder': {
    name: 'ocsp-responder',
    purposes: ['ocspSigning'],
    names: 'optional',
    statusCheck: 'none',
  },
} as const satisfies Record<string, LeafProfile>;

/** The name of a profile, as in requests and settings. */
export type LeafProfileName = keyof typeof LEAF_PROFILES;

/** The profile with that name; throws `profile.unknown`. */
export function leafProfile(name: string): LeafProfile {
  const found = Object.values(LEAF_PROFILES).find((profile) => profile.name === name);
  if (found === undefined) {
    throw new TrustError(
      'profile.unknown',
      'invalid',
      `cannot use profile ${JSON.stringify(name.slice(0, 60))}: there is none of that name`,
      { hint: `Use one of ${Object.keys(LEAF_PROFILES).join(', ')}.` },
    );
  }
  return found;
}

/** What a certificate of an authority may sign: a root issues authorities, an issuing one only end certificates. */
export interface AuthorityProfile {
  readonly name: 'root-authority' | 'issuing-authority';
  readonly pathLenConstraint: number;
}

/** The profiles of authorities; a path is root, issuing authority, end certificate and nothing else. */
export const AUTHORITY_PROFILES = {
  root: { name: 'root-authority', pathLenConstraint: 1 },
  issuing: { name: 'issuing-authority', pathLenConstraint: 0 },
} as const satisfies Record<string, AuthorityProfile>;
