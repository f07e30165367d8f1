import { stat } from 'node:fs/promises';
import { libvirtClientFiles } from '@virt-trust/connect/client-files.ts';
import type { HostFacts } from './host-facts.ts';
import { checkKeyMode } from './modes.ts';
import { judgeSet } from './path-check.ts';
import type { CheckFinding } from './report.ts';

/** What libvirt's client takes here: of a URI's pkipath, of the user, of the system. */
export async function checkClientFiles(facts: HostFacts, uri: string | undefined): Promise<CheckFinding[]> {
  const { at, home, libvirt, mode, isRoot } = facts;
  const pkipath = uri === undefined ? undefined : (URL.parse(uri)?.searchParams.get('pkipath') ?? undefined);
  const files = libvirtClientFiles({ home }, pkipath);
  const nothing = Object.values(files).every(({ state }) => state.kind === 'missing');
  if (nothing && pkipath === undefined) {
    return [
      {
        severity: 'note',
        code: 'client.none',
        file: files.ca.path,
        text: 'no CA and no certificate of a client: qemu+tls:// cannot be used from here',
        remedy: `put the CA at ${files.ca.path}, certificate and key at ${files.certificate.path} and ${files.key.path}`,
      },
    ];
  }
  const paths = {
    ca: files.ca.path,
    crl: files.crl.path,
    certificate: files.certificate.path,
    key: files.key.path,
    dhParameters: undefined,
  };
  const findings = await judgeSet(paths, { role: 'client', at }, libvirt);
  if (files.certificate.state.kind !== 'missing') {
    findings.push(...(await checkKeyMode(paths.key, [0, process.getuid?.() ?? 0])));
    const keyMode = isRoot ? await stat(paths.key).catch(() => undefined) : undefined;
    if (keyMode !== undefined && (keyMode.mode & 0o004) === 0 && pkipath === undefined) {
      findings.push({
        severity: 'note',
        code: 'client.key_of_root',
        file: paths.key,
        text: 'root alone can use this client certificate, as it should be; virt-pki-validate of libvirt 9 asks for mode 0644',
        remedy: `users take a certificate of their own, in ~/.pki/libvirt`,
      });
    }
    if (isRoot && mode !== undefined && pkipath === undefined) {
      findings.push({
        severity: 'warning',
        code: 'client.standing',
        file: paths.certificate,
        text: 'a host that keeps a client certificate of libvirt is root on every host that trusts it, and so is who breaks into it',
        remedy: `give hosts such a certificate only for the time of a peer-to-peer migration; remove ${paths.certificate} and ${paths.key}`,
      });
    }
  }
  return findings;
}
