import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { pinMatches } from '@virt-trust/base/spki-pin.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import type { Expectation, HostFacts, VmFacts } from '../host-effects.ts';
import { CONFIGURED_DIRECTORIES, isOurVncDirectory } from '../layout.ts';
import { withoutNewConnections } from './connection-hold.ts';
import { freePort, QemuProgram, qemuSystem } from './qemu-process.ts';

const RELOAD_MS = 60_000;
const PROBE_MS = 20_000;
const DISPLAY_BASE = 5900;
/** VMs whose viewers are held off together. */
const AT_ONCE = 16;
const ATTEMPTS = 3;
const RELOAD = '{"execute":"display-reload","arguments":{"type":"vnc","tls-certs":true}}';

/**
 * Has every running VM with our directory read it again; throws with the names of those that refuse.
 *
 * SECURITY: display-reload frees the credentials that handshakes under way still use (crypto/tlscredsx509.c,
 * qcrypto_tls_creds_x509_reload; seen to cut them with QEMU 7.2). So no viewer comes in meanwhile.
 */
export async function reloadVnc(
  run: RunHostCommand,
  facts: Pick<HostFacts, 'vms' | 'libvirtVersion'>,
): Promise<void> {
  const failed: string[] = [];
  const vms = facts.vms.filter(usesOurs);
  for (let at = 0; at < vms.length; at += AT_ONCE) {
    const some = vms.slice(at, at + AT_ONCE);
    const ports = some.flatMap(({ vnc }) => vnc.map(({ port }) => port)).filter((port) => port > 0);
    await withoutNewConnections(run, ports, async () => {
      for (const vm of some) {
        try {
          await reloadVm(run, vm, facts.libvirtVersion);
        } catch (error) {
          if (await isGone(run, vm)) continue;
          failed.push(`${vm.name}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }
    });
  }
  if (failed.length === 0) return;
  throw new TrustError(
    'vnc.not_reloaded',
    'failed',
    `cannot reload the VNC certificate of running VMs: ${failed.join('; ').slice(0, 3000)}`,
  );
}

/** libvirt has a call of its own from 10.2; before, QEMU's monitor takes it, which marks the VM as tainted. */
async function reloadVm(run: RunHostCommand, vm: VmFacts, libvirtVersion: string): Promise<void> {
  const connection = ['-c', 'qemu:///system'];
  if (isAtLeast(libvirtVersion, 10, 2)) {
    await run('virsh', [...connection, 'domdisplay-reload', vm.uuid, '--type', 'vnc'], {
      timeoutMs: RELOAD_MS,
    });
    return;
  }
  const { stdout } = await run('virsh', [...connection, 'qemu-monitor-command', vm.uuid, RELOAD], {
    timeoutMs: RELOAD_MS,
  });
  if (stdout.includes('"error"'))
    throw new TrustError('vnc.not_reloaded', 'failed', `QEMU says: ${stdout.trim().slice(0, 500)}`);
}

/** Sees VeNCrypt served by every running VM that uses our directory, or by a QEMU of our own where there is none. */
export async function proveVnc(
  expectation: Expectation,
  run: RunHostCommand,
  clock: Clock,
): Promise<Proof[]> {
  const proofs: Proof[] = [];
  for (const vm of expectation.facts.vms.filter(usesOurs)) {
    for (const { listen, port, tlsDirectory } of vm.vnc) {
      if (!isOurVncDirectory(tlsDirectory)) continue;
      try {
        proofs.push(await probe(dialable(listen), port, `VM ${vm.name}`, expectation, clock));
      } catch (error) {
        if (!(await isGone(run, vm))) throw error;
      }
    }
  }
  return proofs.length > 0 ? proofs : [await proveWithOwnQemu(expectation, clock)];
}

async function proveWithOwnQemu(expectation: Expectation, clock: Clock): Promise<Proof> {
  const { qemuUid: uid, qemuGid: gid } = expectation.facts;
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const credentials = `tls-creds-x509,id=tls0,endpoint=server,dir=${CONFIGURED_DIRECTORIES.vnc},verify-peer=off`;
    const args = [
      ...['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none'],
      ...['-object', credentials, '-vnc', `127.0.0.1:${port - DISPLAY_BASE},tls-creds=tls0`],
    ];
    await using qemu = await QemuProgram.start(qemuSystem(), args, { uid, gid });
    try {
      return await qemu.untilListening(
        () => probe('127.0.0.1', port, 'QEMU of our own', expectation, clock),
        (error) => isTrustError(error, 'probe.connect'),
      );
    } catch (error) {
      // Somebody may have taken the port in between.
      if (attempt < ATTEMPTS && /address already in use/i.test(qemu.complaint)) continue;
      if (qemu.over || isTrustError(error, 'probe.connect'))
        throw qemu.notStarted('VNC', CONFIGURED_DIRECTORIES.vnc, error);
      throw error;
    }
  }
}

async function probe(
  host: string,
  port: number,
  target: string,
  expectation: Expectation,
  clock: Clock,
): Promise<Proof> {
  const evidence = await probeVnc({
    host,
    port,
    timeoutMs: PROBE_MS,
    serverName: null,
    trust: expectation.bundle,
    clock,
  });
  const { pin } = evidence.servedCertificate;
  if (!pinMatches(pin, [expectation.pin])) {
    throw new TrustError(
      'proof.other_certificate',
      'failed',
      `cannot see our certificate at the VNC server of ${target}: another key is served (${pin})`,
    );
  }
  const detail = `${evidence.subtype}, ${evidence.protocol}`;
  return {
    kind: 'vencrypt',
    target: target.slice(0, 1000),
    at: clock.now(),
    by: 'agent',
    servedPin: pin,
    detail,
  };
}

function usesOurs({ vnc }: VmFacts): boolean {
  return vnc.some(({ tlsDirectory }) => isOurVncDirectory(tlsDirectory));
}

/** A VM that ended or moved away since it was listed needs nothing. */
async function isGone(run: RunHostCommand, vm: VmFacts): Promise<boolean> {
  const { stdout } = await run('virsh', ['-c', 'qemu:///system', 'list', '--uuid']);
  return !stdout.includes(vm.uuid);
}

/** Where a server that listens on an address is reached from the host itself. */
export function dialable(listen: string): string {
  if (listen === '0.0.0.0' || listen === '') return '127.0.0.1';
  return listen === '::' ? '::1' : listen;
}

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
