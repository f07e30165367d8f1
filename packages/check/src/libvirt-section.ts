import { readGnutlsCertificatePem } from '@virt-trust/libvirt/gnutls/certificate.ts';
import { LIBVIRT_SYSTEM_FILES } from '@virt-trust/libvirt/layout.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { nameAttribute } from '@virt-trust/pki/name.ts';
import type { HostFacts } from './host-facts.ts';
import { checkKeyMode, checkPkiDirectories } from './modes.ts';
import { checkOwnNames } from './names.ts';
import type { NetworkState } from './network.ts';
import { judgeSet } from './path-check.ts';
import { readFileState } from './reader.ts';
import type { CheckFinding } from './report.ts';
import { checkServedByLibvirtd } from './served.ts';

/** The files that libvirtd or virtproxyd loads, its settings of trust, and what it shows. */
export async function checkLibvirtFiles(facts: HostFacts, network: NetworkState): Promise<CheckFinding[]> {
  const { libvirtd, daemonFile, at } = facts;
  const { files } = libvirtd;
  const findings: CheckFinding[] = [...checkTrustSettings(facts)];
  if (files.kind === 'explicit') {
    for (const key of files.missing) {
      findings.push({
        severity: 'error',
        code: 'configuration.incomplete',
        file: daemonFile,
        text: `${key} is not set although another of ca_file, cert_file and key_file is: the daemon does not start`,
        remedy: `set ${key} in ${daemonFile}, or none of the three`,
      });
    }
    if (files.identities.some(({ certificate }) => certificate !== LIBVIRT_SYSTEM_FILES.serverCertificate)) {
      findings.push({
        severity: 'warning',
        code: 'configuration.reload_reads_default_paths',
        file: daemonFile,
        text: 'server-update-tls reads the default paths whatever cert_file says: a renewed certificate is loaded at the next start only',
        remedy: `make ${LIBVIRT_SYSTEM_FILES.serverCertificate} and its neighbours links to these files`,
      });
    }
  }
  if (files.kind === 'default') findings.push(...(await checkPkiDirectories()));
  const [identity] = files.identities;
  const paths = {
    ca: files.caCertificate ?? LIBVIRT_SYSTEM_FILES.caCertificate,
    // Of explicit files none is the default: the CRL is loaded only where it is set.
    crl: files.crl ?? '/nonexistent',
    certificate: identity?.certificate ?? LIBVIRT_SYSTEM_FILES.serverCertificate,
    key: identity?.key ?? LIBVIRT_SYSTEM_FILES.serverKey,
    dhParameters: undefined,
  };
  const certificate = await readFileState(paths.certificate);
  if (network.tls === 'off' && certificate.kind === 'missing') {
    findings.push({
      severity: 'note',
      code: 'network.tls_off',
      file: paths.certificate,
      text: 'no server certificate and no TLS port: this host serves no client over TLS',
      remedy: `put CA, certificate and key in place, then ${switchOn(facts.daemon)}`,
    });
    return findings;
  }
  if (network.tls === 'off') {
    findings.push({
      severity: 'note',
      code: 'network.tls_off',
      file: paths.certificate,
      text: 'the certificate is in place, and nothing listens for TLS: no client reaches this host',
      remedy: `${switchOn(facts.daemon)}, and open port ${network.tlsPort} in the firewall`,
    });
  }
  const judged = await judgeSet(paths, { role: 'server', at }, facts.libvirt);
  findings.push(...judged.map((finding) => withoutSanity(finding, libvirtd.tlsNoSanityCertificate)));
  findings.push(...(await checkKeyMode(paths.key, [0])));
  findings.push(...(await checkOwnNames(paths.certificate)), ...(await checkOrganizations(paths)));
  if (network.tls === 'on' && network.listening.has(network.tlsPort)) {
    findings.push(...(await checkServedByLibvirtd(network.tlsPort, paths.certificate, facts.daemon)));
  }
  return findings;
}

/** systemd starts no socket of a service that runs; VMs go on while it is down. */
function switchOn(daemon: string): string {
  return `systemctl stop ${daemon}.service && systemctl enable --now ${daemon}-tls.socket && systemctl start ${daemon}.service`;
}

function checkTrustSettings({ libvirtd, daemonFile }: HostFacts): CheckFinding[] {
  const findings: CheckFinding[] = [];
  const add = (severity: CheckFinding['severity'], code: string, text: string, remedy: string) =>
    findings.push({ severity, code, file: daemonFile, text, remedy });
  if (libvirtd.tlsNoVerifyCertificate) {
    add(
      'warning',
      'configuration.no_verify',
      'tls_no_verify_certificate = 1: clients without a certificate are let in',
      `set tls_no_verify_certificate = 0 in ${daemonFile}`,
    );
  }
  if (libvirtd.tlsAllowedDnList?.length === 0) {
    add(
      'error',
      'configuration.nobody_allowed',
      'tls_allowed_dn_list is empty: every client is refused',
      `name clients in tls_allowed_dn_list, or remove the line`,
    );
  }
  if (!['none', 'sasl'].includes(libvirtd.authTls)) {
    add(
      'error',
      'configuration.auth_tls',
      `auth_tls is neither none nor sasl: the daemon does not start`,
      `set auth_tls = "none" in ${daemonFile}`,
    );
  }
  return findings;
}

/** With tls_no_sanity_certificate the daemon starts all the same; its peers judge as before. */
function withoutSanity(finding: CheckFinding, skipped: boolean): CheckFinding {
  if (!skipped || finding.severity !== 'error' || !/^(?:certificate|chain)\./.test(finding.code))
    return finding;
  return {
    ...finding,
    severity: 'warning',
    text: `${finding.text}; the daemon starts, as tls_no_sanity_certificate is 1, and clients refuse it`,
  };
}

/** virt-pki-validate of libvirt 9.0 demands one organization of CA and certificate. */
async function checkOrganizations(paths: { ca: string; certificate: string }): Promise<CheckFinding[]> {
  const [ca, own] = await Promise.all(
    [paths.ca, paths.certificate].map(async (path) => {
      const state = await readFileState(path);
      if (state.kind !== 'text') return undefined;
      try {
        return nameAttribute(readGnutlsCertificatePem(state.text).subject, OID.organizationName) ?? '';
      } catch {
        return undefined;
      }
    }),
  );
  if (ca === undefined || own === undefined || ca === own) return [];
  return [
    {
      severity: 'note',
      code: 'names.organization',
      file: paths.certificate,
      text: `its organization ${JSON.stringify(own)} is not the CA's ${JSON.stringify(ca)}: nothing but virt-pki-validate of libvirt 9 minds`,
      remedy: `issue ${paths.certificate} again with the organization of the CA`,
    },
  ];
}
