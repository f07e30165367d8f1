import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import { run } from './command.ts';
import { type HostPlan, sshKeyPath } from './host-plan.ts';

/** Makes the lab's SSH key pair if it is not there yet. */
export async function ensureSshKey(lab: string): Promise<void> {
  const path = sshKeyPath(lab);
  if (await exists(`${path}.pub`)) return;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await rm(path, { force: true });
  await makeKeyPair(path, `virt-trust-lab-${lab}`);
}

/**
 * Prepares the disk of a host that was never booted: what makes one installed Debian differ from the next
 * (identifiers, names, keys). A disk that is there already is left as it is.
 */
export async function ensureDisk(
  plan: HostPlan,
  all: readonly HostPlan[],
  randomness: Randomness = systemRandomness,
): Promise<void> {
  await mkdir(plan.mountPoint, { recursive: true, mode: 0o700 });
  await mkdir(plan.work, { recursive: true, mode: 0o700 });
  if (await exists(plan.upper)) return;
  const unfinished = `${plan.upper}.unfinished`;
  await rm(unfinished, { recursive: true, force: true });
  const write = async (path: string, mode: number, text: string) => {
    const target = join(unfinished, path);
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await writeFile(target, text);
    await chmod(target, mode);
  };
  await mkdir(unfinished, { recursive: true, mode: 0o755 });
  await mkdir(join(unfinished, 'root', '.ssh'), { recursive: true, mode: 0o700 });
  await write('etc/machine-id', 0o444, `${Buffer.from(randomness.bytes(16)).toString('hex')}\n`);
  await write('etc/hostname', 0o644, `${plan.name}\n`);
  await write('etc/hosts', 0o644, hostsFile(all));
  await write('root/.ssh/authorized_keys', 0o600, await readFile(`${sshKeyPath(plan.lab)}.pub`, 'utf8'));
  const shipped = await readFile(join(plan.lower, 'etc/libvirt/libvirtd.conf'), 'utf8');
  // Hosts without firmware tables of their own would all claim the same identifier and refuse to migrate.
  await write('etc/libvirt/libvirtd.conf', 0o644, `${shipped}\nhost_uuid = "${uuid(randomness)}"\n`);
  await mkdir(join(unfinished, 'etc/ssh'), { recursive: true, mode: 0o755 });
  await makeKeyPair(join(unfinished, 'etc/ssh/ssh_host_ed25519_key'), `root@${plan.name}`);
  await rename(unfinished, plan.upper);
}

/** The hosts(5) file that all hosts of a lab share. */
export function hostsFile(plans: readonly HostPlan[]): string {
  const lines = ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback'];
  for (const { name, interfaces } of plans) {
    const management = interfaces.find(({ network }) => network === 'management');
    if (management !== undefined)
      lines.push(`${management.address} ${name}`, `${management.address6} ${name}`);
  }
  return `${lines.join('\n')}\n`;
}

async function makeKeyPair(path: string, comment: string): Promise<void> {
  await run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', path]);
}

// RFC 9562 §5.4.
function uuid(randomness: Randomness): string {
  const bytes = Buffer.from(randomness.bytes(16));
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x40, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
