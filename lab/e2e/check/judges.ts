import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FFDHE2048_PEM } from '@virt-trust/libvirt/dh-params.ts';
import type { Host } from '../../src/host.ts';
import type { OwnSet, SetFile } from './own-set.ts';
import { OWN_SETS } from './own-sets.ts';

/** Whose rules judge a set. */
type Program = 'libvirt' | 'qemu';

/** What a daemon or tool made of a set; the words are its own. */
export interface RealVerdict {
  readonly accepted: boolean;
  readonly words: string;
}

const PLACE = '/var/tmp/check-sets';

function fileNames(
  program: Program,
  role: OwnSet['role'],
): Readonly<Record<'ca' | 'crl' | 'cert' | 'key', string>> {
  return program === 'libvirt'
    ? { ca: 'cacert.pem', crl: 'cacrl.pem', cert: `${role}cert.pem`, key: `${role}key.pem` }
    : { ca: 'ca-cert.pem', crl: 'ca-crl.pem', cert: `${role}-cert.pem`, key: `${role}-key.pem` };
}

async function writeSetFile(path: string, file: SetFile): Promise<void> {
  if (typeof file === 'string' || file instanceof Uint8Array) return writeFile(path, file, { mode: 0o644 });
  if ('content' in file) return writeFile(path, file.content, { mode: file.mode });
  if (file.kind === 'directory') await mkdir(path);
  else await symlink('/nonexistent', path);
}

/** Writes every set in both layouts: `BASE/NUMBER/libvirt` and `BASE/NUMBER/qemu`. */
export async function writeSets(base: string, sets: readonly OwnSet[] = OWN_SETS): Promise<void> {
  for (const [index, set] of sets.entries()) {
    for (const program of ['libvirt', 'qemu'] as const) {
      const directory = join(base, String(index), program);
      await mkdir(directory, { recursive: true, mode: 0o755 });
      const names = fileNames(program, set.role);
      for (const part of ['ca', 'crl', 'cert', 'key'] as const) {
        const file = set[part];
        if (file !== undefined) await writeSetFile(join(directory, names[part]), file);
      }
      // Else QEMU computes parameters of its own for each set.
      if (program === 'qemu') await writeSetFile(join(directory, 'dh-params.pem'), set.dh ?? FFDHE2048_PEM);
    }
  }
}

const JUDGE = `
cd ${PLACE}
judge() {
  words=$("$@" 2>&1 >/dev/null)
  code=$?
  printf '%s\\t%s\\t%s\\t%s\\n' "$number" "$program" "$code" "$(printf '%s' "$words" | tr '\\n\\t' '  ')"
}
for entry in $LIST; do
  number=\${entry%:*}; role=\${entry#*:}
  program=libvirt
  if [ "$role" = server ]; then
    ln -sfn ${PLACE}/$number/libvirt ${PLACE}/current
    judge virt-admin -c libvirtd:///system server-update-tls libvirtd
  else
    judge virsh -c "qemu+tls://127.0.0.1:1/system?pkipath=${PLACE}/$number/libvirt" version
  fi
  program=qemu
  judge setpriv --reuid libvirt-qemu --regid kvm --init-groups -- qemu-img info \\
    --object "tls-creds-x509,id=t,dir=${PLACE}/$number/qemu,endpoint=$role" --image-opts driver=null-co,size=1M
done`;

const PREPARE = `
set -e
mkdir -p /etc/pki/CA /etc/pki/libvirt/private
ln -sfn ${PLACE}/0/libvirt ${PLACE}/current
ln -sf ${PLACE}/current/cacert.pem ${PLACE}/current/cacrl.pem /etc/pki/CA/
ln -sf ${PLACE}/current/servercert.pem /etc/pki/libvirt/
ln -sf ${PLACE}/current/serverkey.pem /etc/pki/libvirt/private/
systemctl stop libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket
systemctl start libvirtd-tls.socket libvirtd.socket libvirtd-admin.socket
virsh -c qemu:///system version >/dev/null`;

/** Puts the sets of a local directory on the host and has libvirtd, libvirt's client and QEMU judge each. */
export async function judgeOwnSets(
  host: Host,
  base: string,
  sets: readonly OwnSet[] = OWN_SETS,
): Promise<Map<string, RealVerdict>> {
  const { stdout } = await promisify(execFile)('tar', ['-c', '-C', base, '.'], {
    encoding: 'buffer',
    maxBuffer: 256 << 20,
  });
  await host.run(
    ['sh', '-c', `rm -rf ${PLACE} && mkdir -m 755 ${PLACE} && tar -x -C ${PLACE} && chmod 755 ${PLACE}`],
    {
      input: stdout,
    },
  );
  // The first set is a good one.
  await host.run(['sh', '-c', PREPARE]);
  const list = sets.map(({ role }, index) => `${index}:${role}`).join(' ');
  const said = await host.run(['sh', '-c', `LIST='${list}'\n${JUDGE}`], { timeout: 900_000 });
  const verdicts = new Map<string, RealVerdict>();
  for (const line of said.split('\n')) {
    const [number = '', program = '', code = '', words = ''] = line.split('\t');
    if (program === '') continue;
    // Past its own check a client fails for want of a server.
    const accepted = code === '0' || /Connection refused/.test(words);
    verdicts.set(`${number} ${program}`, { accepted, words });
  }
  return verdicts;
}
