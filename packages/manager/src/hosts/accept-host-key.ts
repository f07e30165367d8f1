import { TrustError } from '@virt-trust/base/error.ts';
import type { AddHost } from '@virt-trust/contract/model/host.ts';
import type { Host } from './host.ts';
import type { KnownHostKey } from './ssh-host-key.ts';
import { scanHostKeys } from './ssh-scan.ts';

/**
 * Finds the SSH host key that goes with the fingerprint given, or with the one accepted before. Nothing is run on the
 * machine. Throws `ssh.host_key_unaccepted` with the keys shown where none was given, `ssh.host_key_mismatch` where
 * the machine has another.
 */
export async function acceptHostKey(
  order: AddHost,
  known: Host | null,
  signal?: AbortSignal,
): Promise<string> {
  const keys = await scanHostKeys(order.ssh, signal);
  if (order.fingerprint !== undefined) return keyOf(keys, order.fingerprint, order);
  if (known !== null) {
    const accepted = keys.find((key) => key.key === known.sshHostKey);
    if (accepted !== undefined) return accepted.key;
    throw mismatch(order, keys, 'the one that was accepted before');
  }
  throw new TrustError(
    'ssh.host_key_unaccepted',
    'denied',
    `cannot add host ${order.name}: the SSH host key of ${order.ssh.destination} was not accepted`,
    {
      context: { keys: keys.map(({ algorithm, fingerprint }) => ({ algorithm, fingerprint })) },
      hint: `compare it with what the machine's console shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then give it with --ssh-fingerprint ${keys[0]?.fingerprint ?? ''}`,
    },
  );
}

function keyOf(keys: readonly KnownHostKey[], fingerprint: string, order: AddHost): string {
  const key = keys.find((candidate) => candidate.fingerprint === fingerprint);
  if (key === undefined) throw mismatch(order, keys, `the one given, ${fingerprint}`);
  return key.key;
}

function mismatch(order: AddHost, keys: readonly KnownHostKey[], expected: string): TrustError {
  const shown = keys.map((key) => `${key.fingerprint} (${key.algorithm})`).join(', ');
  return new TrustError(
    'ssh.host_key_mismatch',
    'denied',
    `cannot add host ${order.name}: the SSH host key of ${order.ssh.destination} is not ${expected}; it shows ${shown}`,
    {
      context: { destination: order.ssh.destination },
      hint: 'nothing was done on the machine; make sure that it is the right one before you accept another key',
    },
  );
}
