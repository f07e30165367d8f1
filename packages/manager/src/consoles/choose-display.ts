import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import type { ConsoleType, VmDisplay } from '@virt-trust/contract/model/console.ts';

/** A display that speaks TLS. */
export type TlsDisplay = VmDisplay & { readonly tlsPort: number };

/**
 * The display of a VM that clients are sent to: of the type asked for, or else SPICE before VNC. Throws
 * `console.no_display`, and `console.no_tls` rather than to send anybody to a port without TLS.
 */
export function chooseDisplay(
  vm: string,
  displays: readonly VmDisplay[],
  type: ConsoleType | undefined,
): TlsDisplay {
  const candidates = displays.filter((display) => type === undefined || display.type === type);
  if (candidates.length === 0) {
    const there = displays.map((display) => display.type).join(', ');
    throw new TrustError(
      'console.no_display',
      'not-found',
      `cannot open a console of VM ${vm}: it has no ${type ?? 'VNC or SPICE'} display on the network`,
      {
        hint:
          there === ''
            ? `give it one, then stop and start it: virsh edit ${virshDomain({ name: vm, uuid: null })}, <graphics type='vnc' autoport='yes'/>`
            : `it has ${there}: leave --type out`,
      },
    );
  }
  const secured = candidates.filter((display): display is TlsDisplay => display.tlsPort !== null);
  const chosen = secured.find((display) => display.type === 'spice') ?? secured[0];
  if (chosen !== undefined) return chosen;
  // SECURITY: a console without TLS is never announced; whoever is in between would read every key.
  throw new TrustError(
    'console.no_tls',
    'conflict',
    `cannot open a console of VM ${vm}: its ${candidates.map((display) => display.type).join(' and ')} display was started without TLS`,
    {
      hint: 'pass the gate vnc-tls of its host (virt-trust host show), or set console.listen, then stop and start the VM',
    },
  );
}

/**
 * Whether only programs on the host itself reach an address. SECURITY: a whole address and nothing behind it, since it is
 * the agent's word and goes into a command that a person is told.
 */
export function isLoopback(listen: string): boolean {
  return listen === 'localhost' || (isIP(listen) !== 0 && /^(?:127\.|::ffff:127\.|::1$)/.test(listen));
}

/** Whether all addresses of the host are reached, of both families or of IPv4 alone. */
export function wildcardOf(listen: string): 'both' | 'ipv4' | undefined {
  if (listen === '::' || listen === '') return 'both';
  return listen === '0.0.0.0' ? 'ipv4' : undefined;
}
