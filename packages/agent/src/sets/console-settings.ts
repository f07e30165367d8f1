import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Configuration } from '@virt-trust/libvirt/configuration.ts';
import type { Edit } from './configuration-edits.ts';

/** Who may come to displays from outside of the host. */
export type ConsoleListening = DesiredState['settings']['consoles'];

/**
 * What qemu.conf must say for displays to leave loopback: to all addresses, so that none that is missing keeps a VM
 * from starting and one that comes is served at once; never without TLS, and never without a client that is
 * authenticated. `ipv6` says whether the kernel has it; its wildcard takes IPv4 in, too.
 */
export function consoleEdits(consoles: ConsoleListening, found: Configuration, ipv6: boolean): Edit[] {
  if (consoles === 'keep') return [];
  const edits: Edit[] = [];
  for (const type of consoles === 'with-password' ? (['vnc', 'spice'] as const) : (['vnc'] as const)) {
    edits.push({ kind: 'set', key: `${type}_listen`, value: ipv6 ? '::' : '0.0.0.0' });
    edits.push({ kind: 'set', key: `${type}_tls`, value: 1 });
    // It would have displays listen on Unix sockets instead.
    const socket = `${type}_auto_unix_socket`;
    if (found.get(socket) !== undefined) edits.push({ kind: 'unset', key: socket });
    // SECURITY: with the empty password QEMU lets nobody in until one is made for a visit (qemu.conf; libvirt has it
    // expire at once). There is none to be guessed, or read from a file. Where certificates are asked for, too: QEMU
    // takes any of an authority that it trusts, so that the server certificate of one broken host would open them all.
    edits.push({ kind: 'set', key: `${type}_password`, value: '' });
  }
  if (consoles === 'with-certificate') edits.push({ kind: 'set', key: 'vnc_tls_x509_verify', value: 1 });
  return edits;
}
