import type { TlsRole } from '@virt-trust/libvirt/certificate-use.ts';

/** What a remedy may name. */
export interface RemedyContext {
  readonly file: string;
  readonly role: TlsRole;
}

const REISSUE = ({ file, role }: RemedyContext) =>
  `issue the ${role} certificate again (basicConstraints CA:FALSE; keyUsage digitalSignature, and keyEncipherment for RSA; extKeyUsage ${role}Auth) and put it at ${file}`;
const TRUST = ({ file }: RemedyContext) =>
  `put the certificate of the issuing authority, and its issuers up to the root, into ${file}`;
const NEW_CRL = ({ file }: RemedyContext) => `fetch the present CRL from its authority and put it at ${file}`;

/** The command or edit that mends what a code stands for. */
const REMEDIES: Readonly<Record<string, (context: RemedyContext) => string>> = {
  'certificate.expired': ({ file }) =>
    `renew the certificate, or take it out of ${file} where nothing needs it any more (see: certtool -i --infile ${file})`,
  'certificate.not_yet_valid': ({ file }) =>
    `set the clock of this host (timedatectl), or issue the certificate of ${file} again from now on`,
  'certificate.not_authority': ({ file }) =>
    `take that certificate out of ${file}: every one in it must be an authority's (basicConstraints CA:TRUE)`,
  'certificate.extension_malformed': ({ file }) => `issue the certificate of ${file} again`,
  'certificate.is_authority': REISSUE,
  'certificate.key_usage': REISSUE,
  'certificate.key_encipherment': ({ file }) =>
    `for RSA issue the certificate again with keyEncipherment; for EC with a keyUsage that is not critical, and where it is so already leave it; put it at ${file}`,
  'certificate.purpose': REISSUE,
  'certificate.expires_soon': ({ file }) => `renew ${file}`,
  'certificate.revoked': REISSUE,
  'certificate.no_names': ({ file }) =>
    `issue the certificate of ${file} again with the host's names and addresses in subjectAltName`,
  'certificate.refused_by_peers': REISSUE,
  'authority.expires_soon': ({ file }) =>
    `put the authority's next certificate beside it into ${file} in time`,
  'chain.issuer_unknown': ({ role, file }) =>
    `put the ${role} certificate's issuing authority, intermediates included, into the CA file (now: certtool -i --infile ${file})`,
  'chain.expired': TRUST,
  'chain.not_yet_valid': TRUST,
  'chain.signature_wrong': TRUST,
  'chain.issuer_not_authority': TRUST,
  'chain.path_too_long': TRUST,
  'chain.insecure_algorithm': REISSUE,
  'chain.extension_unknown': REISSUE,
  'chain.name_forbidden': REISSUE,
  'files.missing': ({ file }) => `put the file at ${file}`,
  'files.unreadable': ({ file }) =>
    `make it a regular file that its reader may read: for QEMU chown root:GROUP-OF-QEMU ${file} and chmod 0640 ${file}`,
  'files.malformed': ({ file }) => `replace ${file} by the PEM text that its authority gave, unchanged`,
  'files.too_large': ({ file }) => `take out of ${file} what libvirt does not need: it reads 65,536 bytes`,
  'files.too_many': ({ file }) => `keep at most 16 certificates in ${file}, the ones in use first`,
  'files.half_identity': ({ file }) => `put the missing half at ${file}, or remove the other`,
  'key.mismatch': ({ file }) => `put the key with which the certificate was requested at ${file}`,
  'key.encrypted': ({ file }) => `remove the password: openssl pkey -in ${file} -out ${file}.new`,
  'key.malformed': ({ role, file }) =>
    `put a PEM key (RSA, EC P-256 to P-521, Ed25519) at ${file} and issue the ${role} certificate for it; of an EC key the form can be mended: openssl pkey -in ${file} -ec_param_enc named_curve -ec_conv_form uncompressed -out ${file}.new && mv ${file}.new ${file}`,
  'key.cannot_sign': ({ role, file }) =>
    `make another key at ${file} (RSA with two primes, EC P-256 to P-521, Ed25519) and issue the ${role} certificate for it`,
  'key.exposed': ({ file }) => `chmod o-rwx ${file}, and replace the key if others had access`,
  'dh_params.malformed': ({ file }) =>
    `certtool --generate-dh-params --sec-param medium --outfile ${file}, or remove it`,
  'crl.malformed': NEW_CRL,
  'crl.signature': NEW_CRL,
  'crl.stale': NEW_CRL,
  'crl.due': NEW_CRL,
  'crl.future': NEW_CRL,
  'crl.issuer_unknown': NEW_CRL,
  'crl.no_next_update': NEW_CRL,
  'crl.size': ({ file }) => `leave out of ${file} what has expired`,
  'peer.name_mismatch': ({ file }) =>
    `connect by a name or address that ${file} has, or issue it again with this one in subjectAltName`,
  'peer.revoked': REISSUE,
  'directory.unreadable': ({ file }) =>
    `chmod 0755 ${file}, or chown root:GROUP-OF-QEMU ${file} and chmod 0750 ${file}`,
  'directory.missing': ({ file }) => `give an existing directory, or mkdir ${file}`,
};

/** What mends a finding; every code that `packages/libvirt` makes is known here. */
export function remedyFor(code: string, context: RemedyContext): string {
  const known =
    REMEDIES[code] ??
    (code.startsWith('peer.') ? REMEDIES[code.replace('peer.', 'certificate.')] : undefined);
  return (known ?? REISSUE)(context);
}
