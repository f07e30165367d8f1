import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { checkPath, type PathQuestion } from '@virt-trust/check/path-check.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { Lab } from '../src/lab.ts';
import { judgeOwnSets, writeSets } from './check/judges.ts';
import { OWN_SETS } from './check/own-sets.ts';
import { judgePeers, writePeerDirectories } from './check/peer-judges.ts';
import { PEER_SETS } from './check/peer-sets.ts';
import { programPath } from './program.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PROGRAMS = ['libvirt', 'qemu'] as const;
/** Debian's libvirt-qemu, which the lab's QEMU runs as. */
const QEMU_USER = { name: 'libvirt-qemu', uid: 64_055, gids: [104] };

describe('virt-trust check --path against the real libvirtd and QEMU', { skip }, () => {
  let lab: Lab;
  let host: Host;
  let base: string;

  before(async () => {
    base = await mkdtemp(join(tmpdir(), 'vt-check-'));
    lab = await Lab.up({ name: `check-${process.pid}`, hosts: ['host-a'], keepState: false });
    host = lab.host('host-a');
  });
  after(async () => {
    try {
      await lab?.down({ deleteState: true });
    } finally {
      await rm(base, { recursive: true, force: true });
    }
  });

  /** What we say: refused or not, with the findings. */
  async function ours(more: Pick<PathQuestion, 'directory' | 'role'> & Partial<PathQuestion>) {
    const question = { libvirt: '9.0.0', qemu: '7.2.22', at: systemClock.now(), qemuUser: QEMU_USER };
    const { verdict, findings } = await checkPath({ ...question, ...more });
    const why = findings.map(({ code, text }) => `${code} ${text}`).join('; ');
    return { accepted: verdict !== 'broken', why };
  }

  it(`1. agrees with libvirtd, virsh and QEMU on ${OWN_SETS.length} sets of their own`, async () => {
    const directory = join(base, 'own');
    await writeSets(directory);
    const real = await judgeOwnSets(host, directory);
    const differences: string[] = [];
    for (const [index, set] of OWN_SETS.entries()) {
      for (const program of PROGRAMS) {
        const judged = real.get(`${index} ${program}`);
        assert.ok(judged, `${program} was not asked about: ${set.name}`);
        const own = await ours({
          directory: join(directory, String(index), program),
          role: set.role,
          program,
        });
        if (own.accepted === judged.accepted) continue;
        differences.push(
          `${set.name}: ${program} says ${judged.words || 'nothing'}; we say ${own.why || 'nothing'}`,
        );
      }
    }
    assert.deepEqual(differences, []);
  });

  it(`2. agrees with their handshakes on ${PEER_SETS.length} peers`, async () => {
    const directory = join(base, 'peers');
    await writePeerDirectories(directory, PEER_SETS);
    const real = await judgePeers(host, lab.machineAddress, directory, PEER_SETS);
    const differences: string[] = [];
    let judged = 0;
    for (const [index, set] of PEER_SETS.entries()) {
      for (const program of set.programs ?? PROGRAMS) {
        const accepted = real.get(`${index} ${program}`);
        // libvirtd asks no peer with a trust that it does not take for its own.
        if (accepted === undefined) continue;
        judged++;
        const own = await ours({
          directory: join(directory, String(index), program),
          role: set.role,
          peer: join(directory, String(index), 'peer.pem'),
          name: set.host ?? 'host.example',
        });
        if (own.accepted === accepted) continue;
        differences.push(
          `${set.name}: ${program} ${accepted ? 'accepts' : 'refuses'}; we say ${own.why || 'nothing'}`,
        );
      }
    }
    assert.deepEqual(differences, []);
    assert.ok(judged > PEER_SETS.length, `${judged} judged`);
  });

  it('3. finds on a host what virt-pki-validate finds, and more, as root and as a user', async () => {
    await host.writeFile('/usr/local/bin/virt-trust', await readFile(await programPath()), 0o755);
    const own = { ca: OWN_SETS[0]?.ca, certificate: OWN_SETS[0]?.cert, key: OWN_SETS[0]?.key };
    const places = [
      ['/etc/pki/CA/cacert.pem', own.ca, 0o644],
      ['/etc/pki/libvirt/servercert.pem', own.certificate, 0o644],
      ['/etc/pki/libvirt/private/serverkey.pem', own.key, 0o600],
    ] as const;
    await host.run(['sh', '-c', 'rm -rf /etc/pki && mkdir -p /etc/pki/CA /etc/pki/libvirt/private']);
    for (const [path, text, mode] of places) await host.writeFile(path, String(text), mode);
    /** What a mischief is, the words of virt-pki-validate, and our code; what makes good again. */
    const mischiefs: readonly (readonly [mischief: string, words: RegExp, code: string, mend: string])[] = [
      ['true', /does not seem to match the host name/, 'names.none', 'true'],
      ['chmod 644 KEY', /read only by root/, 'key.exposed', 'chmod 600 KEY'],
      ['chmod 640 KEY; chgrp 100 KEY', /read only by root/, 'key.group', 'chmod 600 KEY; chgrp 0 KEY'],
      ['chown 1 KEY', /should be owned by root/, 'key.owner', 'chown 0 KEY'],
      ['mv KEY KEY.x', /Missing server private key/, 'files.missing', 'mv KEY.x KEY'],
      ['mv CA CA.x', /CA certificate .* is missing/, 'files.missing', 'mv CA.x CA'],
      ['mv CERT CERT.x', /Did not find .*servercert/, 'files.missing', 'mv CERT.x CERT'],
      [
        'mv /etc/pki/libvirt/private /etc/pki/x',
        /private directory is missing/,
        'directory.missing',
        'mv /etc/pki/x /etc/pki/libvirt/private',
      ],
      [
        'cp CERT /etc/pki/libvirt/clientcert.pem',
        /Missing client private key/,
        'files.half_identity',
        'true',
      ],
      [
        'cp KEY /etc/pki/libvirt/private/clientkey.pem',
        /need to be read by client tools/,
        'client.key_of_root',
        'rm /etc/pki/libvirt/clientcert.pem /etc/pki/libvirt/private/clientkey.pem',
      ],
    ];
    const inWords = (script: string) =>
      script
        .replaceAll('KEY', '/etc/pki/libvirt/private/serverkey.pem')
        .replaceAll('CERT', '/etc/pki/libvirt/servercert.pem')
        .replaceAll(/\bCA\b/g, '/etc/pki/CA/cacert.pem');
    await host.run(['systemctl', 'start', 'libvirtd-tls.socket']);
    for (const [mischief, words, code, mend] of mischiefs) {
      await host.run(['sh', '-c', inWords(mischief)]);
      assert.match((await host.exec(['virt-pki-validate'])).stdout, words, mischief);
      const { stdout } = await host.exec(['virt-trust', 'check', '--json']);
      const codes = (JSON.parse(stdout) as { findings: { code: string }[] }).findings.map(
        (each) => each.code,
      );
      assert.ok(codes.includes(code), `${mischief}: ${codes.join(' ')}`);
      await host.run(['sh', '-c', inWords(mend)]);
    }
    const asUser = [
      'setpriv',
      '--reuid',
      '65534',
      '--regid',
      '65534',
      '--clear-groups',
      '--',
      'env',
      'HOME=/tmp',
    ];
    const { code, stdout } = await host.exec([...asUser, 'virt-trust', 'check']);
    assert.match(stdout, /run virt-trust check as root/);
    assert.equal(code, 1);
  });
});
