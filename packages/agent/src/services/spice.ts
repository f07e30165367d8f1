import type { Clock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { pinMatches } from '@virt-trust/base/spki-pin.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { CONFIGURED_DIRECTORIES } from '../sets/layout.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { Expectation } from './host-effects.ts';
import { proveFiles } from './migration.ts';
import { freePort, QemuProgram, qemuSystem } from './qemu-process.ts';
import { seeTls } from './tls-sight.ts';

const ATTEMPTS = 3;
const DIRECTORY = CONFIGURED_DIRECTORIES.spice;
/** What QEMU says where it was built without SPICE, or without its module. */
const NO_SPICE = /spice support is disabled|spice is not|invalid option|no option group/i;

/**
 * Sees a QEMU of our own serve SPICE with the files, as the QEMU user: running VMs have loaded theirs at their start
 * and tell nothing of these. Where QEMU has no SPICE, its TLS code alone is seen to use them.
 */
export async function proveSpice(
  paths: AgentPaths,
  run: RunHostCommand,
  expectation: Expectation,
  clock: Clock,
): Promise<Proof[]> {
  const { qemuUid: uid, qemuGid: gid } = expectation.facts;
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const args = [
      ...['-machine', 'none', '-nodefaults', '-no-user-config', '-display', 'none', '-spice'],
      `tls-port=${port},addr=127.0.0.1,x509-dir=${DIRECTORY},disable-ticketing=on`,
    ];
    await using qemu = await QemuProgram.start(qemuSystem(), args, { uid, gid });
    try {
      const { pin, protocol } = await qemu.untilListening(
        () => seeTls('127.0.0.1', port, 'SPICE'),
        (error) => isTrustError(error, 'proof.no_handshake'),
      );
      if (!pinMatches(pin, [expectation.pin])) throw other(pin);
      const target = 'SPICE of a QEMU of our own';
      return [{ kind: 'handshake', target, at: clock.now(), by: 'agent', servedPin: pin, detail: protocol }];
    } catch (error) {
      if (!qemu.over) throw error;
      if (NO_SPICE.test(qemu.complaint))
        return await proveFiles(paths, run, expectation, clock, {
          directory: DIRECTORY,
          verifyClient: false,
          detail: 'this QEMU has no SPICE; qemu-nbd and qemu-img used the files, as the QEMU user',
        });
      // Somebody may have taken the port in between, which QEMU does not tell from other reasons.
      if (attempt === ATTEMPTS) throw qemu.notStarted('SPICE', DIRECTORY, error);
    }
  }
}

function other(pin: string): TrustError {
  return new TrustError(
    'proof.other_certificate',
    'failed',
    `cannot see our certificate at the SPICE server of a QEMU of our own: another key is served (${pin})`,
  );
}
