import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import { pinMatches } from '@virt-trust/base/spki-pin.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { probeVnc } from '@virt-trust/connect/probe-vnc.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { CONFIGURED_DIRECTORIES, isOurVncDirectory } from '../sets/layout.ts';
import { withoutNewConnections } from './connection-hold.ts';
import type { Expectation, HostFacts, VmFacts } from './host-effects.ts';
import { freePort, QemuProgram, qemuSystem } from './qemu-process.ts';
import {
  hostPort,
  type IsOwn,
  isAmong,
  notSeenFromHere,
  type Reach,
  reachesOf,
  readOwnAddresses,
  withNote,
} from './reach.ts';
import { inTurnAtVnc } from './vnc-turns.ts';

const RELOAD_MS = 60_000;
const PROBE_MS = 20_000;
const DISPLAY_BASE = 5900;
/** VMs whose viewers are held off together. */
const AT_ONCE = 16;
/** Each takes a worker of the daemon, which others need too. */
const RELOADS_AT_ONCE = 4;
const ATTEMPTS = 3;
const LOOPBACK = '127.0.0.1';
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
      await inParallel(some, RELOADS_AT_ONCE, async (vm) => {
        try {
          await reloadVm(run, vm, facts.libvirtVersion);
        } catch (error) {
          if (await isGone(run, vm)) return;
          failed.push(`${vm.name}: ${error instanceof Error ? error.message : String(error)}`);
        }
      });
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

/**
 * Sees VeNCrypt served by every running VM that uses our directory: on each endpoint address of the host's own that its
 * server takes clients on, under that address as its name. Where there is no such VM, a QEMU of our own is seen.
 */
export async function proveVnc(
  expectation: Expectation,
  run: RunHostCommand,
  clock: Clock,
): Promise<Proof[]> {
  const isOwn = await readOwnAddresses(run);
  const places = placesToProve(expectation, isOwn);
  let failed = false;
  const proofs = await inParallel(places, AT_ONCE, async ({ vm, port, reach }): Promise<Proof[]> => {
    try {
      const target = `VM ${vm.name} ${hostPort(reach.address, port)}`;
      return await inTurnAtVnc(port, async () =>
        // One failure is enough: the others would only be waited for.
        failed ? [] : [await probe(reach, port, target, expectation, clock)],
      );
    } catch (error) {
      if (await isGone(run, vm)) return [];
      if (!(await readOwnAddresses(run))(reach.address)) return [];
      failed = true;
      throw error;
    }
  });
  const seen = proofs.flat();
  const all = seen.length > 0 ? seen : await proveWithOwnQemu(expectation, clock);
  return withNote(all, notSeenFromHere(expectation.addresses, isOwn));
}

/** A server on an address that the host has no more can't be seen by anybody, until the address or the VM comes again. */
function placesToProve({ facts, addresses }: Expectation, isOwn: IsOwn) {
  const own = addresses.filter(isOwn);
  return facts.vms.flatMap((vm) =>
    vm.vnc
      .filter(({ tlsDirectory }) => isOurVncDirectory(tlsDirectory))
      .flatMap(({ listen, port }) =>
        reachesOf('vnc', listen, own)
          .filter(({ address }) => isIP(address) === 0 || isOwn(address))
          .map((reach) => ({ vm, port, reach })),
      ),
  );
}

/** Its server is on the loopback, and verified under each endpoint address as a client that comes there would. */
async function proveWithOwnQemu(expectation: Expectation, clock: Clock): Promise<Proof[]> {
  const { qemuUid: uid, qemuGid: gid } = expectation.facts;
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const credentials = `tls-creds-x509,id=tls0,endpoint=server,dir=${CONFIGURED_DIRECTORIES.vnc},verify-peer=off`;
    const args = [
      ...['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none'],
      ...['-object', credentials, '-vnc', `${LOOPBACK}:${port - DISPLAY_BASE},tls-creds=tls0`],
    ];
    await using qemu = await QemuProgram.start(qemuSystem(), args, { uid, gid });
    try {
      const name = 'QEMU of our own';
      const first = await qemu.untilListening(
        () => probe({ address: LOOPBACK, isEndpoint: false }, port, name, expectation, clock),
        (error) => isTrustError(error, 'probe.connect'),
      );
      const others = [];
      for (const address of expectation.addresses.filter((one) => isAmong(one, expectation.names.addresses)))
        others.push(
          await probe(
            { address: LOOPBACK, isEndpoint: true },
            port,
            `${name} as ${address}`,
            expectation,
            clock,
            address,
          ),
        );
      return [first, ...others];
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
  { address, isEndpoint }: Reach,
  port: number,
  target: string,
  expectation: Expectation,
  clock: Clock,
  name = address,
): Promise<Proof> {
  const evidence = await probeVnc({
    host: address,
    port,
    timeoutMs: PROBE_MS,
    // A certificate that was found may be for other names.
    serverName: isEndpoint && isAmong(name, expectation.names.addresses) ? name : null,
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

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
