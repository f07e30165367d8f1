import type { DisplayClients, QemuProcess } from '@virt-trust/check/host/qemu-process.ts';
import type { ConsoleAuthentication, VmDisplay } from '@virt-trust/contract/model/console.ts';

/** The display servers of a VM, SPICE first, as its QEMU was started. */
export function displaysOf({ vnc, spice }: Pick<QemuProcess, 'vnc' | 'spice'>): VmDisplay[] {
  return [
    ...spice.map(({ clients, ...display }) => ({
      type: 'spice' as const,
      ...display,
      authentication: authenticationOf(clients),
    })),
    ...vnc.map(({ listen, port, tlsDirectory, clients }) => ({
      type: 'vnc' as const,
      listen,
      // VeNCrypt is spoken on the one port of a VNC server; with credentials it speaks nothing else.
      port: tlsDirectory === null ? port : null,
      tlsPort: tlsDirectory === null ? null : port,
      tlsDirectory,
      authentication: authenticationOf(clients),
    })),
  ];
}

function authenticationOf({ password, certificate }: DisplayClients): ConsoleAuthentication {
  if (certificate) return password ? 'certificate-and-password' : 'certificate';
  return password ? 'password' : 'none';
}
