import { machineOsRelease } from '@virt-trust/lab/os-release.ts';
import { ensurePackages, MACHINE_PACKAGES } from '@virt-trust/lab/packages.ts';

/** What the tests beside the code hold our own work against, and what each is there for. */
const TEST_PACKAGES: Readonly<Record<string, string>> = {
  'gnutls-bin': 'certificates held against GnuTLS (certtool)',
  iproute2: 'network namespaces',
  nftables: "the agent's firewall rules in a namespace",
  openssl: 'certificates held against OpenSSL',
  'openssh-client': 'SSH host keys and sessions',
  tcpdump: 'what a migration looks like on the wire',
};

/**
 * Installs the Debian packages that the tests and the lab need; where it may not (not root, not Debian), says what
 * they are for instead, and leaves it to each test to look whether its program is there. Throws `lab.packages`.
 */
export async function preparePackages(say: (text: string) => void): Promise<void> {
  const release = await machineOsRelease();
  const why =
    process.getuid?.() !== 0
      ? 'it takes root'
      : release.id !== 'debian'
        ? `it takes Debian, this is ${release.prettyName || 'something unknown'}`
        : undefined;
  if (why === undefined) {
    await ensurePackages([...new Set([...Object.keys(TEST_PACKAGES), ...MACHINE_PACKAGES])].sort(), say);
    return;
  }
  say(`Packages are not installed, because ${why}. Tests leave out what is not there already:`);
  for (const [name, purpose] of Object.entries(TEST_PACKAGES)) say(`  ${name.padEnd(15)} ${purpose}`);
}
