import type { CertificateTemplate } from '@virt-trust/pki/certificate-issue.ts';
import type { LeafProfile } from '@virt-trust/pki/profiles.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Settings } from '../settings/settings.ts';

/** By which template an authority certifies a profile now: with the places of its CRL and OCSP where they are public. */
export async function presentTemplate(
  settings: Settings,
  authority: Authority,
  profile: LeafProfile,
): Promise<CertificateTemplate> {
  const url = await settings.value('status.public_url');
  if (url === '') return authority.template(profile);
  return authority.template(profile, { crl: `${url}/crl/${authority.name}.crl`, ocsp: `${url}/ocsp` });
}
